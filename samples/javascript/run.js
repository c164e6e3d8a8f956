// A bundle's folder -> its model in onnxruntime-node, on the bundle's own golden samples. Standard form only: this
// runtime is not told of our kernels, and a plugin-form file runs on the functions it carries.
//
//   npm install --ignore-scripts && node run.js ../../out/demo/model-onnx
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { readNpz } from "./npz.js";

const SCHEMA = 1, TOLERANCE = 1e-3, TYPES = { float32: "float32", int64: "int64" };

function readBundle(folder) {
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  if (manifest.schema_version !== SCHEMA) throw new Error(`${folder} has manifest schema ${manifest.schema_version}; this sample reads ${SCHEMA}`);
  for (const [name, { sha256 }] of Object.entries(manifest.files)) {
    const found = createHash("sha256").update(readFileSync(join(folder, name))).digest("hex");
    if (found !== sha256) throw new Error(`${name} was altered or damaged since the export`);
  }
  return manifest;
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
  for (const { name } of manifest.outputs) {
    const wanted = golden[`outputs.${name}`], got = answers[name];
    if (String(got.dims) !== String(wanted.shape)) throw new Error(`output ${name} has shape ${got.dims}, not ${wanted.shape}`);
    const largest = wanted.data.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    // "not <=", so that a NaN is a difference too.
    const worst = wanted.data.reduce((most, value, i) => {
      const error = Math.abs(value - got.data[i]);
      return error <= most || Number.isNaN(most) ? most : error;
    }, 0);
    if (!(worst <= TOLERANCE * largest)) throw new Error(`output ${name} differs from the golden samples by ${worst}`);
    console.log(`${name}: ${got.dims.join("x")}, within ${worst.toExponential(1)} of the golden samples`);
  }
}

main(process.argv[2]).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
