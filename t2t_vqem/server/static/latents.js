// Shows the codes of a sentence and what each stands for, and decodes the sentence from other codes.

import { byId, debounce, element, keepDraft, Latest, milliseconds, plural, scoreText } from "./dom.js";
import { marked } from "./words.js";

const TYPING_MILLISECONDS = 200;
const MOST_FOUND = 24;

export function startLatents(engine, models, watch) {
  const sentence = byId("sentence");
  const select = byId("latents-model");
  const status = byId("latents-status");
  const latest = new Latest();
  const phrases = new Map(); // for each model, a promise of the phrases of each code with counts
  let own; // the model's translation
  let now; // the translation of the codes shown
  let chosen = -1; // index among the codes

  const model = () => models.find(({ name }) => name === select.value);

  function phrasesOf(name) {
    if (!phrases.has(name)) {
      const loaded = engine.phrases(name);
      phrases.set(name, loaded);
      loaded.catch(() => phrases.delete(name));
    }
    return phrases.get(name);
  }

  // Returns the model's translation of the sentence; undefined if a later request cancelled this one.
  async function ask(options) {
    const answer = await latest.run((signal) =>
      engine.translate(select.value, sentence.value, options, signal),
    );
    if (!answer) return undefined;
    const time = milliseconds(answer.milliseconds);
    status.textContent = `Decoded in ${time}, ${scoreText(answer.translations.score)}.`;
    return answer.translations;
  }

  const translate = () =>
    watch(async () => {
      const empty = !sentence.value.trim();
      if (empty) {
        latest.cancel();
        status.textContent = "";
      }
      const found = empty ? undefined : await ask({});
      if (!empty && !found) return;
      own = now = found;
      chosen = -1;
      byId("sample-latents").hidden = !model().can_sample;
      showSamples(found?.alternatives && [found, ...found.alternatives]);
      show();
    });

  const decode = (codes) =>
    watch(async () => {
      const found = await ask({ codes });
      if (!found) return;
      now = found;
      show();
    });

  const replaceChosen = (code) => decode(now.codes.map((old, i) => (i === chosen ? code : old)));

  function show() {
    byId("latents-result").hidden = !now;
    byId("code").hidden = !now || chosen < 0;
    if (!now) return;
    const focused = byId("codes").contains(document.activeElement);
    byId("codes").replaceChildren(...now.codes.map(codeItem));
    byId("decoded").replaceChildren(...marked(own.text, now.text));
    byId("decoded").lang = model().languages?.[1] ?? "";
    byId("restore").disabled = String(now.codes) === String(own.codes);
    if (chosen < 0) return;
    if (focused) byId("codes").querySelectorAll("button")[chosen].focus();
    watch(showCode);
  }

  function codeItem(code, place) {
    const words = now.segments
      .filter((segment) => segment.code === place)
      .map(({ text }) => text)
      .join("");
    const replaced = code !== own.codes[place];
    const label = `Code ${code}${replaced ? ", replaced" : ""}, stands for ${words.trim() || "no words"}`;
    const button = element(
      "button",
      {
        type: "button",
        class: replaced ? "replaced" : null,
        "aria-pressed": String(place === chosen),
        "aria-label": label,
        onclick: () => {
          chosen = place;
          show();
        },
      },
      String(code),
    );
    const below = words.trim()
      ? element("span", { lang: model().languages?.[1] }, words.trim())
      : element("span", { class: "words-none" }, "–");
    return element("li", {}, button, below);
  }

  async function showCode() {
    const code = now.codes[chosen];
    byId("code-title").textContent = `Code ${code}`;
    byId("replacement").max = model().latents.num_codes - 1;
    byId("code-search").hidden = !model().latents.phrases;
    const table = byId("code-phrases");
    if (!model().latents.phrases) {
      table.replaceChildren("This export has no phrases of the training text for its codes.");
      return;
    }
    const all = await phrasesOf(select.value);
    if (now?.codes[chosen] !== code) return;
    table.replaceChildren(phraseTable(code, all[code]));
    search(all);
  }

  function search(all) {
    const wanted = byId("phrase").value.trim().toLowerCase();
    const found = [];
    for (let code = 0; wanted && code < all.length && found.length < MOST_FOUND; code++) {
      const hit = all[code].find(([text]) => text.toLowerCase().includes(wanted));
      if (hit) found.push(element("li", {}, foundButton(code, hit[0])));
    }
    byId("found").replaceChildren(...found);
  }

  const foundButton = (code, text) =>
    element("button", { type: "button", onclick: () => replaceChosen(code) }, `${code}: ${text}`);

  async function sample() {
    const num = byId("latents-num").valueAsNumber;
    const options = {
      temperature: byId("latents-temperature").valueAsNumber,
      seed: byId("latents-seed").valueAsNumber,
    };
    const text = Array(num).fill(sentence.value);
    const answer = await engine.translate(select.value, text, options);
    if (own) showSamples(answer.translations);
  }

  // Samples, or the candidates of an export that has several.
  function showSamples(samples) {
    const box = byId("samples");
    box.hidden = !samples;
    box.replaceChildren(...(samples ? [sampleTable(samples)] : []));
    byId("unsure").hidden = !samples && !model().can_sample;
  }

  function sampleTable(samples) {
    const rows = samples.map((found) => {
      const codes = found.codes.map((code, i) =>
        code === own.codes[i] ? `${code} ` : element("mark", {}, `${code}`),
      );
      const use = () => {
        now = found;
        chosen = -1;
        show();
      };
      return element(
        "tr",
        {},
        element("td", { lang: model().languages?.[1] }, ...marked(own.text, found.text)),
        element("td", {}, ...codes.flatMap((code) => [code, " "])),
        element("td", { class: "number" }, found.score.toFixed(2)),
        element("td", {}, element("button", { type: "button", onclick: use }, "Use")),
      );
    });
    const head = ["Translation", "Codes", "Score", ""].map((title) =>
      title ? element("th", { scope: "col" }, title) : element("td"),
    );
    return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  }

  keepDraft(sentence);
  sentence.addEventListener("input", debounce(TYPING_MILLISECONDS, translate));
  select.addEventListener("change", translate);
  byId("restore").addEventListener("click", () => decode(own.codes));
  byId("phrase").addEventListener("input", () =>
    watch(async () => search(await phrasesOf(select.value))),
  );
  byId("replace").addEventListener("submit", (event) => {
    event.preventDefault();
    replaceChosen(byId("replacement").valueAsNumber);
  });
  byId("sample-latents").addEventListener("submit", (event) => {
    event.preventDefault();
    watch(sample);
  });
  translate();
}

function phraseTable(code, phrases) {
  if (!phrases.length) return document.createTextNode("It stood for nothing in the training text that was counted.");
  const total = plural(phrases.length, "phrase");
  const row = ([text, count]) =>
    element("tr", {}, element("td", {}, text.trim() || "(nothing)"), element("td", { class: "number" }, String(count)));
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, "Phrase"),
    element("th", { scope: "col", class: "number" }, "Times"),
  );
  return element(
    "table",
    {},
    element("caption", {}, `What it stood for most often in the training text: ${total}`),
    element("thead", {}, head),
    element("tbody", {}, ...phrases.map(row)),
  );
}
