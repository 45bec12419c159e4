// A model that translates: what t2t_vqem/runtime/text.py and the server do.

import { EngineError } from "./engine.js";
import { EOS } from "./vocabulary.js";

const PAD = 0;
const LEAST_SCORE = -1e8; // rows of a search with a lower score are not hypotheses
const BYTE_END = "\ufffd"; // the decoding of a character whose last bytes are missing
const LINE_SEPARATOR = /\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]/g;
const BLANK = /^[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;

export class TextModel {
  #card;
  #graphs;
  #vocabulary;

  constructor(card, graphs, vocabulary) {
    this.#card = card;
    this.#graphs = graphs;
    this.#vocabulary = vocabulary;
  }

  // Throws where a text is longer than the model takes.
  check(texts) {
    const { name, max_tokens: most } = this.#card;
    for (const [i, text] of texts.entries()) {
      const length = this.#ids(text).length;
      if (length > most) {
        throw new EngineError(
          `text[${i}] has ${length} tokens, expected at most ${most} for model ${name}.`,
          422,
        );
      }
    }
  }

  #ids = (text) => [...this.#vocabulary.encode(text), EOS];

  // The translation of a text, the number `index` of its request; with `codes`, theirs.
  async translate(text, index, { codes, temperature, top_k: topK, seed = 0 }) {
    const nothing = { text: "", score: 0, cut: false };
    if (BLANK.test(text)) return this.#card.latents ? { ...nothing, codes: [], segments: [] } : nothing;
    const ids = this.#ids(text);
    if (codes) return this.#hypotheses(await this.#graphs.run(this.#fitting("decode_codes", ids, codes), { inputs: ids, codes }));
    const { local } = this.#card;
    const outputs = await this.#graphs.run(this.#fitting("translate", ids, []), {
      inputs: ids,
      temperature: [temperature ?? local.temperature],
      top_k: [topK ?? local.top_k],
      seed: [seed],
      row_ids: [index],
    });
    return this.#hypotheses(outputs);
  }

  // The function of the shortest length that has room for the ids and the codes.
  #fitting(name, ids, codes) {
    const length = this.#card.local.lengths.find(
      (each) => ids.length <= each && (!codes.length || codes.length <= this.#graphs.size(`${name}_${each}`, "codes")),
    );
    if (!length) throw new EngineError(`There are ${codes.length} codes, which is more than model ${this.#card.name} takes.`, 422);
    return `${name}_${length}`;
  }

  #hypotheses(outputs) {
    const rows = Array.from(outputs.scores, (_, row) => row).filter(
      (row) => row === 0 || outputs.scores[row] > LEAST_SCORE,
    );
    const [best, ...others] = rows.map((row) => this.#hypothesis(outputs, row));
    return others.length ? { ...best, alternatives: others } : best;
  }

  #hypothesis(outputs, row) {
    const of = (name) => {
      const width = outputs[name].length / outputs.scores.length;
      return Array.from(outputs[name].subarray(row * width, (row + 1) * width));
    };
    const ids = of("tokens");
    const text = oneLine(this.#vocabulary.decode(ids));
    const found = { text, score: outputs.scores[row], cut: !ids.includes(EOS) };
    if (!this.#card.latents) return found;
    const codes = of("codes").filter((code) => code >= 0);
    return { ...found, codes, segments: this.#segments(text, ids, of("latents")) };
  }

  // Divides a text into segments, one for each latent of its tokens.
  #segments(whole, ids, latents) {
    const segments = [];
    const kept = ids.flatMap((id, i) => (id === PAD || id === EOS ? [] : [i]));
    let begin = 0;
    for (const [place, i] of kept.entries()) {
      const next = kept[place + 1];
      if (next !== undefined && latents[next] === latents[i]) continue;
      let text = oneLine(this.#vocabulary.decode(ids.slice(0, i + 1)));
      // A character that two latents share belongs to the latent of its last byte.
      while (!whole.startsWith(text)) {
        const end = text.endsWith(BYTE_END) ? BYTE_END.length : [...text].at(-1).length;
        text = text.slice(0, -end);
      }
      segments.push({ text: text.slice(begin), code: latents[i] });
      begin = text.length;
    }
    return segments;
  }
}

const oneLine = (text) => text.replace(LINE_SEPARATOR, " ");
