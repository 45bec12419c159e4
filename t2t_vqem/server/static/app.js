// Starts the page: loads the list of models and shows the tabs that they support.

import { arrowKeys, byId, element } from "./dom.js";
import { findEngine } from "./engine.js";
import { startImages } from "./images.js";
import { startLatents } from "./latents.js";
import { startTranslate } from "./translate.js";

const RETRY_MILLISECONDS = 2000;

// Shows errors. If the server is gone, waits for it and then repeats what was asked of it.
class Trouble {
  #engine;
  #again = new Map(); // from the name of a tab to the work to repeat
  #timer;

  constructor(engine) {
    this.#engine = engine;
  }

  // Runs an action and shows its error as a sentence; returns whether it succeeded. What failed
  // because the server was gone is repeated when the server is back.
  async watch(name, action) {
    try {
      await action();
      this.clear();
      return true;
    } catch (error) {
      console.warn(error);
      this.#show(error.message);
      if (error.status === 0) {
        this.#again.set(name, () => this.watch(name, action));
        this.#wait();
      }
      return false;
    }
  }

  clear() {
    byId("trouble").hidden = true;
  }

  #show(message) {
    const trouble = byId("trouble");
    trouble.textContent = message;
    trouble.hidden = false;
  }

  #wait() {
    this.#timer ??= setTimeout(async () => {
      this.#timer = undefined;
      if (!(await this.#engine.isThere())) {
        this.#wait();
        return;
      }
      const again = [...this.#again.values()];
      this.#again.clear();
      for (const work of again) await work();
    }, RETRY_MILLISECONDS);
  }
}

function showTabs(names) {
  const tabs = names.map((name) => byId(`tab-${name}`));
  const choose = (chosen) => {
    for (const [i, name] of names.entries()) {
      tabs[i].setAttribute("aria-selected", String(name === chosen));
      tabs[i].tabIndex = name === chosen ? 0 : -1;
      byId(name).hidden = name !== chosen;
    }
    history.replaceState(null, "", `#${chosen}`);
  };
  for (const name of ["translate", "latents", "images"]) {
    byId(`tab-${name}`).hidden = !names.includes(name);
  }
  for (const [i, name] of names.entries()) {
    tabs[i].addEventListener("click", () => choose(name));
    tabs[i].addEventListener("focus", () => choose(name));
  }
  const list = document.querySelector("[role=tablist]");
  arrowKeys(list, "[role=tab]:not([hidden])");
  list.hidden = false;
  choose(names.find((name) => `#${name}` === location.hash) ?? names[0]);
}

function fillModels(select, models) {
  select.replaceChildren(...models.map(({ name }) => element("option", {}, name)));
}

const STARTS = { translate: startTranslate, latents: startLatents, images: startImages };

async function start() {
  const engine = await findEngine();
  const trouble = new Trouble(engine);
  await trouble.watch("models", async () => show(engine, await engine.models(), trouble));
}

function show(engine, models, trouble) {
  const offered = {
    translate: models.filter(({ kind }) => kind === "text"),
    latents: models.filter(({ kind, latents }) => kind === "text" && latents),
    images: models.filter(({ kind }) => kind === "images"),
  };
  const names = Object.keys(offered).filter((name) => offered[name].length);
  for (const name of names) {
    fillModels(byId(`${name}-model`), offered[name]);
    STARTS[name](engine, offered[name], (action) => trouble.watch(name, action));
  }
  byId("loading").hidden = true;
  showTabs(names);
  byId("foot").textContent = models
    .map(({ name, description }) => `${name}: ${description}.`)
    .join(" ");
}

start();
