// Stands in for `Function` in SentencePiece's glue code, which builds the callers of its C++
// functions as source text: the page's content security policy forbids to run such text. This makes
// the same callers as closures. `names` are those of embind's createJsInvoker, with its text last.
export function EmbindFunction(...names) {
  const text = names.pop();
  if (names[0] !== "humanName" || names[6] !== "classParam") {
    throw new Error("this version of embind is unknown: see web/embind_function.js");
  }
  const count = names.filter((name) => /^argType\d+$/.test(name)).length;
  const isMethod = text.includes("var thisWired =");
  const hasStack = text.includes("var destructors =");
  const returns = text.includes("return ret;");
  const releases = names.flatMap((name, position) => {
    const found = name.match(/^(?:this|arg(\d+))Wired_dtor$/);
    if (!found) return [];
    return [{ position, place: found[1] === undefined ? 0 : Number(found[1]) + isMethod }];
  });
  return (...bound) => {
    const [, , invoker, fn, runDestructors, retType, classParam] = bound;
    const types = bound.slice(7, 7 + count);
    return function (...given) {
      const stack = hasStack ? [] : null;
      const wired = isMethod ? [classParam.toWireType(stack, this)] : [];
      for (const [i, type] of types.entries()) wired.push(type.toWireType(stack, given[i]));
      const result = invoker(fn, ...wired);
      if (hasStack) runDestructors(stack);
      else for (const { position, place } of releases) bound[position](wired[place]);
      return returns ? retType.fromWireType(result) : undefined;
    };
  };
}

// embind tests `constructor instanceof Function`.
Object.defineProperty(EmbindFunction, Symbol.hasInstance, {
  value: (other) => typeof other === "function",
});
