// The functions of an exported model, computed by LiteRT in one thread.

import { loadAndCompile, loadLiteRt, Tensor } from "./vendor/litert.js";

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const PADDING = { codes: -1 }; // of inputs; 0 for the others

export async function startLiteRt() {
  // LiteRT writes what it does where errors are shown.
  globalThis.Module = { print: console.debug, printErr: console.debug };
  await loadLiteRt(new URL("vendor/litert_wasm_compat_internal.js", import.meta.url).href);
}

export async function loadGraphs(model) {
  return new Graphs(await loadAndCompile(model, { accelerator: "wasm" }));
}

class Graphs {
  #model;

  constructor(model) {
    this.#model = model;
  }

  // Number of values of an input.
  size(name, input) {
    const found = this.#model.signatures[name].getInputDetails().find((each) => each.name === input);
    return count(found.shape);
  }

  // Computes a function of named values, which are padded to the shapes of its inputs.
  async run(name, values) {
    const runner = this.#model.signatures[name];
    const inputs = {};
    let outputs = {};
    try {
      for (const { name: input, dtype, shape } of runner.getInputDetails()) {
        const padded = new ARRAYS[dtype](count(shape)).fill(PADDING[input] ?? 0);
        padded.set(values[input]);
        inputs[input] = new Tensor(padded, [...shape]);
      }
      outputs = await runner.run(inputs);
      return Object.fromEntries(
        Object.entries(outputs).map(([output, tensor]) => [output, tensor.toTypedArray().slice()]),
      );
    } finally {
      // The memory of WebAssembly is not collected.
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    }
  }
}

const count = (shape) => shape.reduce((product, size) => product * size, 1);
