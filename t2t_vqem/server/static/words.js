// Finds the words in which two texts differ.

import { element } from "./dom.js";

const split = (text) => text.match(/\S+|\s+/g) ?? [];

// Returns each part of `after`, and whether it is outside a longest common subsequence with `before`.
export function changes(before, after) {
  const a = split(before).filter((part) => part.trim());
  const b = split(after);
  const words = b.flatMap((part, i) => (part.trim() ? [i] : []));
  const rows = a.length + 1;
  const columns = words.length + 1;
  const longest = Array.from({ length: rows }, () => new Uint16Array(columns));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = words.length - 1; j >= 0; j--) {
      longest[i][j] =
        a[i] === b[words[j]]
          ? longest[i + 1][j + 1] + 1
          : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const kept = new Set();
  for (let i = 0, j = 0; i < a.length && j < words.length; ) {
    if (a[i] === b[words[j]]) {
      kept.add(words[j]);
      i++;
      j++;
    } else if (longest[i + 1][j] >= longest[i][j + 1]) i++;
    else j++;
  }
  return b.map((text, i) => ({ text, changed: Boolean(text.trim()) && !kept.has(i) }));
}

// Returns nodes of `after`, with the words that differ from `before` marked.
export const marked = (before, after) =>
  changes(before, after).map(({ text, changed }) =>
    changed ? element("mark", {}, text) : document.createTextNode(text),
  );
