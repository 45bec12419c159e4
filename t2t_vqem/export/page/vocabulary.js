// Text to ids and back, by SentencePiece: as t2t_vqem/data/vocabulary.py does it.

import { EngineError } from "./engine.js";
import { SentencePieceProcessor } from "./vendor/sentencepiece.js";

const PAD = 0;
const FILL = 2;
// SentencePiece writes a space as this character, and so takes one in a text for a space.
const SPACE_MARK = "\u2581";

export const EOS = 1;

// model: content of the file; byteIds: the id of each byte
export async function loadVocabulary(model, byteIds) {
  const processor = new SentencePieceProcessor();
  await processor._loadModel(model); // its public functions read a file, or base64
  return new Vocabulary(processor, byteIds);
}

class Vocabulary {
  #processor;
  #byteIds;

  constructor(processor, byteIds) {
    this.#processor = processor;
    this.#byteIds = byteIds;
  }

  // Ids of a text, without EOS.
  encode(text) {
    if (/\p{Surrogate}/u.test(text)) throw new EngineError("The text is not valid Unicode.", 422);
    return text.includes(SPACE_MARK) ? this.#encodeWithMarks(text) : this.#processor.encodeIds(text);
  }

  // Puts another character in the place of the mark, and then the mark's bytes in that of its bytes.
  #encodeWithMarks(text) {
    const [standIn, spelt] = this.#standIn(text);
    const ids = this.#processor.encodeIds(text.replaceAll(SPACE_MARK, standIn));
    const marks = this.#spelt(SPACE_MARK);
    const result = [];
    for (let i = 0; i < ids.length; ) {
      if (spelt.every((id, j) => ids[i + j] === id)) {
        result.push(...marks);
        i += spelt.length;
      } else result.push(ids[i++]);
    }
    return result;
  }

  // A character that is neither in the text nor in a piece, and the ids of its bytes.
  #standIn(text) {
    for (let code = 0x10fffd; code > 0x100000; code--) {
      const char = String.fromCodePoint(code); // for private use
      const spelt = this.#spelt(char);
      const found = this.#processor.encodeIds(`a${char}`).slice(-spelt.length);
      if (!text.includes(char) && String(found) === String(spelt)) return [char, spelt];
    }
    throw new EngineError("The text has every character of private-use plane 16.", 422);
  }

  #spelt = (char) => Array.from(new TextEncoder().encode(char), (byte) => this.#byteIds[byte]);

  // Text of the ids before the first EOS, as one line.
  decode(ids) {
    const end = ids.indexOf(EOS);
    const vector = new this.#processor.sentencepiece.VectorInt();
    for (const id of end < 0 ? ids : ids.slice(0, end)) {
      if (id !== PAD && id !== FILL) vector.push_back(id);
    }
    const text = this.#processor.processor.DecodeIds(vector);
    vector.delete();
    return text.replaceAll("\n", " ");
  }
}
