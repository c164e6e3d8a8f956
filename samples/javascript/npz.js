// NumPy's .npz -> {name: {shape, data}}: a zip of .npy files, stored or deflated. Little-endian float32 and int64.
import { inflateRawSync } from "node:zlib";

const END_OF_CENTRAL_DIRECTORY = 0x06054b50, CENTRAL_HEADER = 0x02014b50, DEFLATED = 8;
const KINDS = { "<f4": Float32Array, "<i8": BigInt64Array };

export function readNpz(bytes) {
  let end = bytes.length - 22;
  while (end >= 0 && bytes.readUInt32LE(end) !== END_OF_CENTRAL_DIRECTORY) end--;
  if (end < 0) throw new Error("this is no .npz file: it has no zip directory");
  const arrays = {};
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left--) {
    if (bytes.readUInt32LE(at) !== CENTRAL_HEADER) throw new Error("the .npz file's directory is damaged");
    const method = bytes.readUInt16LE(at + 10), size = bytes.readUInt32LE(at + 20);
    const nameLength = bytes.readUInt16LE(at + 28), local = bytes.readUInt32LE(at + 42);
    const name = bytes.toString("utf8", at + 46, at + 46 + nameLength).replace(/\.npy$/, "");
    const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    const stored = bytes.subarray(start, start + size);
    arrays[name] = readNpy(method === DEFLATED ? inflateRawSync(stored) : stored, name);
    at += 46 + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  return arrays;
}

function readNpy(bytes, name) {
  if (bytes.toString("latin1", 1, 6) !== "NUMPY") throw new Error(`${name} is no NumPy array`);
  const wide = bytes[6] >= 2, length = wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  const begin = wide ? 12 : 10, header = bytes.toString("latin1", begin, begin + length);
  const kind = KINDS[/'descr': '([^']*)'/.exec(header)?.[1]];
  if (!kind || !/'fortran_order': False/.test(header)) throw new Error(`${name} has a layout this sample does not read`);
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((n) => n.trim()).map(Number);
  // Copied: a typed array wants its memory aligned.
  const data = new kind(new Uint8Array(bytes.subarray(begin + length)).buffer);
  return { shape, data };
}
