// A model of images: what t2t_vqem/runtime/images.py and the server do.

import { fitted } from "./resize.js";

const MOST_PSNR = 100; // dB, of an exact copy

export class ImageModel {
  #shape;
  #graphs;

  constructor(card, graphs) {
    this.#shape = card.image;
    this.#graphs = graphs;
  }

  // Draws the image with the number `index` of a request.
  async sample(index, { seed, temperature, top_k: topK }) {
    const values = { seed: [seed], temperature: [temperature], top_k: [topK], row_ids: [index] };
    const { codes } = await this.#graphs.run("sample", values);
    return { codes: Array.from(codes), image: await this.decode(codes) };
  }

  // file: a picture of any size
  async encode(file) {
    const pixels = await fitted(file, this.#shape);
    const { codes } = await this.#graphs.run("encode", { images: pixels });
    const { images } = await this.#graphs.run("decode", { codes });
    return {
      codes: Array.from(codes),
      original: await this.#bitmap(pixels),
      image: await this.#bitmap(images),
      psnr: psnr(pixels, images),
    };
  }

  async decode(codes) {
    const { images } = await this.#graphs.run("decode", { codes });
    return this.#bitmap(images);
  }

  // A picture of uint8 [height, width, channels].
  #bitmap(pixels) {
    const { height, width, channels } = this.#shape;
    const data = new Uint8ClampedArray(4 * height * width).fill(255);
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) data[4 * i + c] = pixels[i * channels + (c % channels)];
    }
    return createImageBitmap(new ImageData(data, width, height));
  }
}

// The peak signal-to-noise ratio in dB.
function psnr(original, image) {
  const sum = original.reduce((total, value, i) => total + (value - image[i]) ** 2, 0);
  return sum ? Math.min(MOST_PSNR, 10 * Math.log10((255 ** 2 * original.length) / sum)) : MOST_PSNR;
}
