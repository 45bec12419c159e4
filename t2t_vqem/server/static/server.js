// The page's requests to the server.

import { byId } from "./dom.js";
import { EngineError } from "./engine.js";

const TOKEN = "t2t-vqem.token";

export class ServerEngine {
  async #fetch(path, options) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    try {
      return await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new EngineError(
        "The server does not answer. What you typed is kept; the page tries again every two seconds.",
        0,
      );
    }
  }

  async call(path, body, signal) {
    const options = body
      ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal }
      : { signal };
    let response = await this.#fetch(path, options);
    while (response.status === 401) {
      await askForToken();
      response = await this.#fetch(path, options);
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new EngineError(answer.error ?? `The server answered with status ${response.status}.`, response.status);
    }
    return answer;
  }

  async isThere() {
    const response = await fetch("healthz").catch(() => undefined);
    return Boolean(response?.ok);
  }

  models = async () => (await this.call("v1/models")).models;

  translate = (model, text, options, signal) =>
    this.call("v1/translate", { model, text, ...options }, signal);

  phrases = async (model) => (await this.call(`v1/models/${encodeURIComponent(model)}/codes`)).codes;

  async sample(model, options, signal) {
    const { images, codes } = await this.call("v1/images/sample", { model, ...options }, signal);
    return { images: await Promise.all(images.map(bitmap)), codes };
  }

  async encode(model, file, signal) {
    const images = [await base64(file)];
    const answer = await this.call("v1/images/encode", { model, images }, signal);
    return {
      codes: answer.codes[0],
      original: await bitmap(answer.originals[0]),
      image: await bitmap(answer.reconstructions[0]),
      psnr: answer.psnr[0],
    };
  }

  async decode(model, codes, signal) {
    const { images } = await this.call("v1/images/decode", { model, codes }, signal);
    return Promise.all(images.map(bitmap));
  }
}

async function bitmap(png) {
  const bytes = Uint8Array.from(atob(png), (char) => char.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new EngineError("The picture cannot be read.", 422));
    reader.readAsDataURL(file);
  });
}

let asking;

// Resolves when a token has been entered; several requests share one dialog.
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    const done = () => {
      sessionStorage.setItem(TOKEN, byId("token").value);
      asking = undefined;
      resolve();
    };
    dialog.addEventListener("close", done, { once: true });
    dialog.showModal();
  });
  return asking;
}
