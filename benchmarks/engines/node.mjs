// Scores windows with onnxruntime-node: a model's path, the windows and their shape come as JSON on stdin.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [packages] = process.argv.slice(2);
const ort = createRequire(`${packages}/`)("onnxruntime-node");
const { model, shape, windows } = JSON.parse(readFileSync(0, "utf8"));
const bytes = Buffer.from(windows, "base64");
const data = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const session = await ort.InferenceSession.create(model);
const { scores } = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", data, shape) }, ["scores"]);
console.log(JSON.stringify({ version: ort.env.versions.node, scores: [...scores.data] }));
