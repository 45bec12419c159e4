// Small helpers: elements, one request at a time, drafts that survive a reload.

export const byId = (id) => document.getElementById(id);

// element("li", {class: "x", onclick: f, "aria-label": "y"}, child, "text")
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export const plural = (count, one, many = `${one}s`) =>
  `${count} ${count === 1 ? one : many}`;

export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

export const scoreText = (score) => `score ${score.toFixed(2)}`;

// Keeps what is typed until the tab is closed, even if the page is reloaded.
export function keepDraft(input) {
  const key = `t2t-vqem.${input.id}`;
  input.value = sessionStorage.getItem(key) ?? input.value;
  input.addEventListener("input", () => sessionStorage.setItem(key, input.value));
}

// Runs one task at a time: a later one cancels the one before it.
export class Latest {
  #controller = new AbortController();

  cancel() {
    this.#controller.abort();
  }

  // Calls work(signal); returns its result, or undefined if a later call cancelled it.
  async run(work) {
    this.cancel();
    const controller = (this.#controller = new AbortController());
    try {
      const result = await work(controller.signal);
      return controller.signal.aborted ? undefined : result;
    } catch (error) {
      if (controller.signal.aborted) return undefined;
      throw error;
    }
  }
}

// Delays calls of a function until none has come for `wait` milliseconds; only the last is made.
export function debounce(wait, call) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), wait);
  };
}

// One of several elements can be reached by Tab; the arrow keys move between them.
export function arrowKeys(container, selector, columns = () => 1) {
  container.addEventListener("keydown", (event) => {
    const items = [...container.querySelectorAll(selector)];
    const here = items.indexOf(document.activeElement);
    const width = columns();
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width };
    const places = { Home: 0, End: items.length - 1 };
    const place = event.key in places ? places[event.key] : here + steps[event.key];
    if (here < 0 || !(place >= 0 && place < items.length)) return;
    event.preventDefault();
    items[here].tabIndex = -1;
    items[place].tabIndex = 0;
    items[place].focus();
  });
}

export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers offer no clipboard to pages that came over plain HTTP from another machine.
  const area = element("textarea", { readonly: "" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("Over plain HTTP this browser does not let a page copy: select and copy the text yourself.");
}

export async function savePng(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
