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

// Keeps what is typed until the tab is closed, also over a reload.
export function keepDraft(input) {
  const key = `t2t-vqem.${input.id}`;
  input.value = sessionStorage.getItem(key) ?? input.value;
  input.addEventListener("input", () => sessionStorage.setItem(key, input.value));
}

// Runs one piece of work at a time: a later one cancels those before it.
export class Latest {
  #controller = new AbortController();

  cancel() {
    this.#controller.abort();
  }

  // Calls work(signal); returns its result, or undefined where a later call came between.
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

// Calls a function when nothing has called it again for a while.
export function debounce(wait, call) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), wait);
  };
}

// One of several elements can be reached by Tab; the arrow keys go from one to the next.
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
  // Browsers have no clipboard where the page came over plain HTTP from another machine.
  const area = element("textarea", { readonly: "" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("This browser does not let a page copy over plain HTTP: select the text.");
}

export async function savePng(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
