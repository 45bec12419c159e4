// Fits a picture to the shape of a model's images, as Pillow's ImageOps.fit does for the training
// data: cropped at the centre, resampled by Lanczos' kernel, first in width and then in height.

const LOBES = 3; // of the kernel

// file: a Blob; returns uint8 [height, width, channels]
export async function fitted(file, { height, width, channels }) {
  const picture = await createImageBitmap(file);
  let { columns, rows, pixels } = flat(picture, channels);
  if (columns !== width || rows !== height) {
    const scale = Math.min(columns / width, rows / height);
    const [across, down] = [scale * width, scale * height];
    pixels = resampled(pixels, rows, columns, channels, (columns - across) / 2, across, width);
    pixels = transposed(pixels, rows, width, channels);
    pixels = resampled(pixels, width, rows, channels, (rows - down) / 2, down, height);
    pixels = transposed(pixels, width, height, channels);
  }
  return pixels;
}

// The pixels on white, grey where the model has one channel.
function flat(picture, channels) {
  const { width: columns, height: rows } = picture;
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, columns, rows);
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, columns, rows);
  const pixels = new Uint8Array(rows * columns * channels);
  for (let i = 0; i < rows * columns; i++) {
    const colour = data.subarray(4 * i, 4 * i + 3);
    if (channels === 1) pixels[i] = grey(colour);
    else pixels.set(colour, 3 * i);
  }
  return { columns, rows, pixels };
}

// ITU-R 601-2, in the whole numbers of Pillow.
const grey = ([red, green, blue]) => (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (x) => (Math.abs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0);

// Resamples the part [start, start + extent) of each row, of `size` pixels, to `wanted` pixels.
function resampled(pixels, rows, size, channels, start, extent, wanted) {
  const scale = extent / wanted;
  const stretch = Math.max(scale, 1);
  const result = new Uint8ClampedArray(rows * wanted * channels);
  for (let place = 0; place < wanted; place++) {
    const centre = start + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - LOBES * stretch + 0.5));
    const last = Math.min(size, Math.trunc(centre + LOBES * stretch + 0.5));
    const weights = Array.from({ length: last - first }, (_, i) => lanczos((first + i - centre + 0.5) / stretch));
    const total = weights.reduce((sum, weight) => sum + weight);
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (const [i, weight] of weights.entries()) sum += weight * pixels[(row * size + first + i) * channels + c];
        result[(row * wanted + place) * channels + c] = Math.floor(sum / total + 0.5);
      }
    }
  }
  return result;
}

function transposed(pixels, rows, columns, channels) {
  const result = new Uint8Array(pixels.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let c = 0; c < channels; c++) {
        result[(column * rows + row) * channels + c] = pixels[(row * columns + column) * channels + c];
      }
    }
  }
  return result;
}
