// Shows the translation of a text while it is typed.

import { byId, copyText, debounce, element, keepDraft, Latest, milliseconds, plural, scoreText } from "./dom.js";
import { marked } from "./words.js";

const TYPING_MILLISECONDS = 120;

export function startTranslate(engine, models, watch) {
  const source = byId("source");
  const target = byId("target");
  const status = byId("translate-status");
  const copy = byId("copy");
  const select = byId("translate-model");
  const latest = new Latest();
  let shown = [];

  function show(translations) {
    shown = translations.map(({ text }) => text);
    target.replaceChildren(...translations.map(line));
    copy.disabled = !shown.some((text) => text);
  }

  const translate = () =>
    watch(async () => {
      const text = source.value.split("\n");
      if (!source.value.trim()) {
        latest.cancel();
        show([]);
        status.textContent = "";
        return;
      }
      const answer = await latest.run((signal) =>
        engine.translate(select.value, text, {}, signal),
      );
      if (!answer) return;
      show(answer.translations);
      const lines = plural(text.filter((line) => line.trim()).length, "line");
      status.textContent = `${lines} in ${milliseconds(answer.milliseconds)}`;
    });

  keepDraft(source);
  source.addEventListener("input", debounce(TYPING_MILLISECONDS, translate));
  select.addEventListener("change", () => {
    setLanguages(models.find(({ name }) => name === select.value));
    translate();
  });
  copy.addEventListener("click", () =>
    watch(async () => {
      await copyText(shown.join("\n"));
      status.textContent = "Copied.";
    }),
  );
  setLanguages(models[0]);
  translate();
}

function setLanguages({ languages }) {
  if (!languages) return;
  byId("source").lang = languages[0];
  byId("target").lang = languages[1];
}

function line({ text, score, alternatives }) {
  const parts = [text];
  if (text) parts.push(" ", element("span", { class: "score", lang: "en" }, scoreText(score)));
  if (alternatives?.length) {
    parts.push(
      element(
        "details",
        { lang: "en", open: "" },
        element("summary", {}, plural(alternatives.length, "other translation")),
        element("ol", { class: "others" }, ...alternatives.map((other) => alternative(text, other))),
      ),
    );
  }
  return element("li", {}, ...parts);
}

const alternative = (best, { text, score }) =>
  element(
    "li",
    {},
    element("span", { lang: byId("target").lang }, ...marked(best, text)),
    " ",
    element("span", { class: "score" }, scoreText(score)),
  );
