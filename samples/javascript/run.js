// A bundle's folder -> its model in onnxruntime-node, on the bundle's own golden samples. Standard form only: this
// runtime is not told of our kernels, and a plugin-form file runs on the functions it carries.
//
//   npm install --ignore-scripts && node run.js ../../out/demo/model-onnx
//
// Exit codes: 0 the golden outputs are reproduced, 1 they are not, 2 the bundle or the command line cannot be used.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { readNpz } from "./npz.js";

const DIFFERS = 1, BAD_INPUT = 2;
// What fp32 is held to, where a bundle was exported with --no-verify and its manifest names no tolerance.
const UNVERIFIED = { metric: "max_abs", atol: 1e-6, rtol: 1e-3 };
const SCHEMA = 1, TYPES = { float32: "float32", int64: "int64" };

function readBundle(folder) {
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  if (manifest.schema_version !== SCHEMA) throw new Error(`${folder} has manifest schema ${manifest.schema_version}; this sample reads ${SCHEMA}`);
  for (const [name, { sha256 }] of Object.entries(manifest.files)) {
    const found = createHash("sha256").update(readFileSync(join(folder, name))).digest("hex");
    if (found !== sha256) throw new Error(`${name} was altered or damaged since the export`);
  }
  return manifest;
}

function difference(sentence) {
  return Object.assign(new Error(sentence), { code: DIFFERS });
}

// Of the distances of all values; NaN where one is not finite, which is within no limit.
function measure(metric, errors) {
  if (!errors.every(Number.isFinite)) return NaN;
  const sorted = [...errors].sort((a, b) => a - b), place = 0.99 * (sorted.length - 1), low = Math.floor(place);
  const above = sorted[Math.min(low + 1, sorted.length - 1)];
  const found = {
    max_abs: sorted.at(-1),
    mean_abs: sorted.reduce((sum, error) => sum + error, 0) / sorted.length,
    p99_abs: sorted[low] + (place - low) * (above - sorted[low]),
  };
  if (!(metric in found)) throw new Error(`the manifest judges by '${metric}', which this sample does not know`);
  return found[metric];
}

async function main(folder) {
  if (!folder) throw new Error("name the bundle's folder: node run.js FOLDER");
  const manifest = readBundle(folder);
  const session = await InferenceSession.create(join(folder, manifest.artifact));
  const golden = readNpz(readFileSync(join(folder, "samples.npz")));
  const feeds = Object.fromEntries(manifest.inputs.map(({ name, dtype }) => {
    const { data, shape } = golden[`inputs.${name}`];
    return [name, new Tensor(TYPES[dtype], data, shape)];
  }));
  const answers = await session.run(feeds);
  const { metric, atol, rtol } = manifest.verification?.tolerance ?? UNVERIFIED;
  for (const { name } of manifest.outputs) {
    const wanted = golden[`outputs.${name}`], got = answers[name];
    if (String(got.dims) !== String(wanted.shape)) throw difference(`output ${name} has shape ${got.dims}, not ${wanted.shape}`);
    const numbers = Array.from(wanted.data, Number), largest = numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const error = measure(metric, numbers.map((value, i) => Math.abs(value - Number(got.data[i]))));
    const limit = atol + rtol * largest;
    if (!(error <= limit)) throw difference(`output ${name} differs from the golden samples by ${error} (${metric}, limit ${limit})`);
    console.log(`${name}: ${got.dims.join("x")}, within ${error.toExponential(1)} of the golden samples (${metric})`);
  }
}

main(process.argv[2]).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = error.code === DIFFERS ? DIFFERS : BAD_INPUT;
});
