// What computes for the page: a server (server.js), or the browser itself (local.js, in a folder
// that t2t-exporter --format=web wrote). Both have the methods
//
//   models() -> the models, as GET /v1/models describes them
//   translate(model, text or texts, {codes, temperature, seed}, signal)
//     -> {milliseconds, translations}, as POST /v1/translate
//   phrases(model) -> for each code [[phrase, count], ...]
//   sample(model, {num, seed, temperature, top_k}, signal) -> {images: [ImageBitmap], codes}
//   encode(model, a picture as Blob, signal) -> {codes, original, image, psnr}
//   decode(model, codes of images, signal) -> [ImageBitmap]
//   isThere() -> whether it answers
//
// and throw an EngineError, whose message is a sentence for the reader.

export class EngineError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status; // of HTTP; 0: no answer
  }
}

export async function findEngine() {
  const alone = document.querySelector('meta[name="models"]');
  if (!alone) return new (await import("./server.js")).ServerEngine();
  return new (await import("./local.js")).LocalEngine(alone.content);
}
