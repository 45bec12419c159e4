// Samples images, encodes uploaded ones, and lets their codes be changed.

import { arrowKeys, byId, element, Latest, plural, savePng } from "./dom.js";

const CHUNK = 64; // how many codes are shown as pictures at a time
const MOST_SIDE = 1024; // longest side in pixels of an uploaded picture; the model scales it down further
const GAP = 2; // pixels between the images of a saved grid

export function startImages(engine, models, watch) {
  const select = byId("images-model");
  const status = byId("images-status");
  const latest = new Latest();
  const bookLatest = new Latest(); // for the codes shown as pictures
  let drawn = []; // {image, codes}
  let now; // {image, codes, original?, title}
  let history = [];
  let cell = -1;
  let booked = 0; // codes shown as pictures so far

  const shape = () => models.find(({ name }) => name === select.value).image;

  async function draw() {
    const options = {
      num: byId("images-num").valueAsNumber,
      seed: byId("images-seed").valueAsNumber,
      temperature: byId("images-temperature").valueAsNumber,
      top_k: byId("images-top-k").valueAsNumber,
    };
    status.textContent = "Drawing.";
    const begin = performance.now();
    const found = await latest
      .run((signal) => engine.sample(select.value, options, signal))
      .finally(() => (status.textContent = ""));
    if (!found) return;
    drawn = found.images.map((image, i) => ({ image, codes: found.codes[i], title: `Image ${i + 1}` }));
    status.textContent = `${plural(drawn.length, "image")} in ${((performance.now() - begin) / 1000).toFixed(2)} s`;
    byId("save-grid").disabled = false;
    showGrid();
    edit(undefined);
  }

  function showGrid() {
    byId("grid").replaceChildren(
      ...drawn.map((item) => {
        const button = element(
          "button",
          { type: "button", "aria-label": item.title, "aria-pressed": "false", onclick: () => edit(item) },
          painted(item.image),
        );
        item.button = button;
        return element("li", {}, button);
      }),
    );
  }

  async function upload(file) {
    if (!file) return;
    status.textContent = "Encoding.";
    const found = await latest
      .run(async (signal) => engine.encode(select.value, await smaller(file), signal))
      .finally(() => (status.textContent = ""));
    if (!found) return;
    edit({ ...found, title: file.name });
  }

  function edit(item) {
    for (const other of drawn) other.button.setAttribute("aria-pressed", String(other === item));
    now = item && { ...item };
    history = [];
    cell = -1;
    byId("editor").hidden = !now;
    if (!now) return;
    byId("editor-title").textContent = now.title;
    byId("original").hidden = !now.original;
    if (now.original) paint(byId("original").querySelector("canvas"), now.original);
    showCells();
    show();
  }

  function showCells() {
    const { rows, columns } = shape();
    const cells = Array.from({ length: rows }, (_, row) =>
      element("div", { role: "row" }, ...Array.from({ length: columns }, (_, column) => cellButton(row * columns + column))),
    );
    byId("cells").replaceChildren(...cells);
    byId("cells").querySelector("button").tabIndex = 0;
  }

  function cellButton(place) {
    const choose = () => {
      cell = place;
      show();
      watch(showBook);
    };
    return element("button", { type: "button", role: "gridcell", tabindex: "-1", onclick: choose }, element("span"));
  }

  function codesOf(place) {
    const { num_codebooks: num } = shape();
    return now.codes.slice(place * num, (place + 1) * num);
  }

  function show() {
    paint(byId("picture"), now.image);
    const similarity = now.psnr !== undefined && !history.length ? `, ${now.psnr.toFixed(1)} dB PSNR` : "";
    byId("picture-caption").textContent =
      (now.original ? "Decoded from its codes" : "Decoded from these codes") + similarity;
    byId("undo").disabled = !history.length;
    byId("codebook").hidden = cell < 0;
    const { columns } = shape();
    for (const [place, button] of byId("cells").querySelectorAll("button").entries()) {
      const codes = codesOf(place).join(" ");
      button.firstChild.textContent = codes;
      button.setAttribute("aria-selected", String(place === cell));
      button.setAttribute(
        "aria-label",
        `Row ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1}, code ${codes}`,
      );
    }
  }

  const codebook = () => Number(byId("codebook-number").value || 0);

  const withCode = (code) => {
    const codes = [...now.codes];
    codes[cell * shape().num_codebooks + codebook()] = code;
    return codes;
  };

  // Shows for each code how the cell and its surroundings would look with it.
  async function showBook() {
    const { columns, num_codebooks: num } = shape();
    byId("codebook-title").textContent =
      `Codes for row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
    byId("codebook-choice").hidden = num < 2;
    if (byId("codebook-number").options.length !== num) {
      const options = Array.from({ length: num }, (_, i) => element("option", { value: String(i) }, String(i + 1)));
      byId("codebook-number").replaceChildren(...options);
    }
    byId("book").replaceChildren();
    booked = 0;
    await moreCodes();
  }

  async function moreCodes() {
    const last = Math.min(booked + CHUNK, shape().num_codes);
    const codes = Array.from({ length: last - booked }, (_, i) => booked + i);
    const images = await bookLatest.run((signal) =>
      engine.decode(select.value, codes.map(withCode), signal),
    );
    if (!images) return;
    booked = last;
    byId("book").append(...images.map((image, i) => bookItem(codes[i], image)));
    byId("more-codes").hidden = booked === shape().num_codes;
  }

  function bookItem(code, image) {
    const pressed = String(codesOf(cell)[codebook()] === code);
    const canvas = document.createElement("canvas");
    paintAround(canvas, image, shape(), cell);
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", "aria-pressed": pressed, onclick: () => replace(code, image) },
        canvas,
        element("span", {}, String(code)),
      ),
    );
  }

  function replace(code, image) {
    history.push({ image: now.image, codes: now.codes });
    now = { ...now, image, codes: withCode(code) };
    show();
    pressCode();
  }

  function pressCode() {
    for (const button of byId("book").querySelectorAll("button")) {
      const code = Number(button.querySelector("span").textContent);
      button.setAttribute("aria-pressed", String(code === codesOf(cell)[codebook()]));
    }
  }

  function undo() {
    now = { ...now, ...history.pop() };
    show();
    if (cell >= 0) watch(showBook);
  }

  function reset() {
    drawn = [];
    byId("grid").replaceChildren();
    byId("save-grid").disabled = true;
    byId("images-num").max = Math.min(64, shape().most ?? 64);
    edit(undefined);
  }

  byId("draw").addEventListener("submit", (event) => {
    event.preventDefault();
    watch(draw);
  });
  byId("upload").addEventListener("change", (event) =>
    watch(() => upload(event.target.files[0])),
  );
  byId("save").addEventListener("click", () => savePng(byId("picture"), "image.png"));
  byId("save-grid").addEventListener("click", () => savePng(tiled(drawn), "images.png"));
  byId("undo").addEventListener("click", undo);
  byId("more-codes").addEventListener("click", () => watch(moreCodes));
  byId("codebook-number").addEventListener("change", () => watch(showBook));
  byId("show-codes").addEventListener("change", (event) =>
    byId("cells").classList.toggle("plain", !event.target.checked),
  );
  arrowKeys(byId("cells"), "button", () => shape().columns);
  select.addEventListener("change", reset);
  reset();
}

function paint(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").drawImage(image, 0, 0);
}

function painted(image) {
  const canvas = document.createElement("canvas");
  paint(canvas, image);
  return canvas;
}

// Paints the part of an image that one cell and its neighbours cover.
function paintAround(canvas, image, { rows, columns }, place) {
  const height = image.height / rows;
  const width = image.width / columns;
  const top = Math.max(0, Math.floor(place / columns) - 1) * height;
  const left = Math.max(0, (place % columns) - 1) * width;
  canvas.height = Math.min(3 * height, image.height - top);
  canvas.width = Math.min(3 * width, image.width - left);
  canvas.getContext("2d").drawImage(image, -left, -top);
}

function tiled(items) {
  const { width, height } = items[0].image;
  const columns = Math.ceil(Math.sqrt(items.length));
  const canvas = document.createElement("canvas");
  canvas.width = columns * (width + GAP) - GAP;
  canvas.height = Math.ceil(items.length / columns) * (height + GAP) - GAP;
  const context = canvas.getContext("2d");
  for (const [i, { image }] of items.entries()) {
    context.drawImage(image, (i % columns) * (width + GAP), Math.floor(i / columns) * (height + GAP));
  }
  return canvas;
}

// Scales a picture down and makes it a PNG: photographs can exceed the server's size limit.
async function smaller(file) {
  const picture = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} is not a picture that this browser can read.`);
  });
  const scale = Math.min(1, MOST_SIDE / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
