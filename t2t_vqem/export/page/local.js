// The page without a server: LiteRT and SentencePiece compute in the browser.

import { EngineError } from "./engine.js";
import { loadGraphs, startLiteRt } from "./graphs.js";
import { ImageModel } from "./image_model.js";
import { TextModel } from "./text_model.js";
import { loadVocabulary } from "./vocabulary.js";

const PAUSE_MILLISECONDS = 50; // after which the page can answer its reader

export class LocalEngine {
  #list;
  #models = new Map();

  // list: address of the file that describes the models
  constructor(list) {
    this.#list = list;
  }

  async models() {
    await startLiteRt();
    const { models } = await (await read(this.#list)).json();
    for (const card of models) this.#models.set(card.name, await load(card));
    keepForLater();
    return models;
  }

  isThere = async () => true;

  async translate(name, text, options, signal) {
    const begin = performance.now();
    const model = this.#models.get(name);
    const texts = [text].flat();
    model.check(texts);
    const found = await each(texts, signal, (one, i) => model.translate(one, i, options));
    const translations = Array.isArray(text) ? found : found[0];
    return { milliseconds: performance.now() - begin, translations };
  }

  phrases = async (name) => (await read(fileOf(name, "phrases.json"))).json();

  async sample(name, { num, ...options }, signal) {
    const model = this.#models.get(name);
    const found = await each(Array(num).fill(), signal, (_, i) => model.sample(i, options));
    return { images: found.map(({ image }) => image), codes: found.map(({ codes }) => codes) };
  }

  encode = (name, file) => this.#models.get(name).encode(file);

  decode = (name, grids, signal) =>
    each(grids, signal, (codes) => this.#models.get(name).decode(codes));
}

const fileOf = (model, file) => `models/${encodeURIComponent(model)}/${file}`;

async function load(card) {
  const bytes = async (file) => new Uint8Array(await (await read(fileOf(card.name, file))).arrayBuffer());
  const graphs = await loadGraphs(await bytes("model.tflite"));
  if (card.kind === "images") return new ImageModel(card, graphs);
  return new TextModel(card, graphs, await loadVocabulary(await bytes("vocab.model"), card.local.byte_ids));
}

async function read(path) {
  const answer = await fetch(path).catch(() => undefined);
  if (!answer?.ok) throw new EngineError(`${path} cannot be loaded: is the folder of the page complete?`, 404);
  return answer;
}

// Computes one item after the other, and lets the page answer in between.
async function each(items, signal, compute) {
  const found = [];
  let begin = performance.now();
  for (const [i, item] of items.entries()) {
    if (performance.now() - begin > PAUSE_MILLISECONDS) {
      await new Promise((resolve) => setTimeout(resolve));
      begin = performance.now();
    }
    signal?.throwIfAborted();
    found.push(await compute(item, i));
  }
  return found;
}

// Keeps all files for a visit without a network. Browsers have service workers only on HTTPS and
// on this machine. `updateViaCache`: a new files.js is seen at once.
function keepForLater() {
  navigator.serviceWorker
    ?.register("service_worker.js", { updateViaCache: "none" })
    .catch((error) => console.warn(error));
}
