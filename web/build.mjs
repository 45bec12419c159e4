// Makes the third-party files of the page that runs without a server: `node build.mjs FOLDER`.
//
// Each library becomes one module without what is unused (the package of SentencePiece holds three
// vocabularies, 3 MB). Of LiteRT's variants the compatible one is taken: it runs in every browser,
// and is as fast as the one for relaxed SIMD.

import { build } from "esbuild";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const packages = join(here, "node_modules");
const folder = resolve(process.argv[2]);
const WASM = ["litert_wasm_compat_internal.js", "litert_wasm_compat_internal.wasm"];

const bundle = (name, exports, options) =>
  build({
    stdin: { contents: exports, resolveDir: here },
    outfile: join(folder, name),
    bundle: true,
    format: "esm",
    minify: true,
    legalComments: "inline",
    metafile: true,
    logLevel: "warning",
    absWorkingDir: here,
    ...options,
  });

// Names, versions and licences of the packages that are in the bundles.
async function licences(bundles) {
  const inputs = bundles.flatMap(({ metafile }) => Object.keys(metafile.inputs));
  const names = new Set(inputs.flatMap((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []));
  const parts = [];
  for (const name of [...names].sort()) {
    const about = JSON.parse(await readFile(join(packages, name, "package.json"), "utf8"));
    const files = await readdir(join(packages, name));
    const file = files.find((each) => /^licen[cs]e/i.test(each));
    const text = file ? await readFile(join(packages, name, file), "utf8") : "";
    const source = about.repository?.url ?? about.repository ?? about.homepage;
    parts.push(`${name} ${about.version}\nLicence: ${about.license}\nSource: ${source}\n\n${text}`.trim());
  }
  return `${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
const bundles = await Promise.all([
  bundle("litert.js", 'export { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";'),
  bundle("sentencepiece.js", 'export { SentencePieceProcessor } from "@sctg/sentencepiece-js";', {
    alias: { fs: "./nothing.js", module: "./nothing.js" },
    inject: [join(here, "embind_function.js")],
    define: { Function: "EmbindFunction" },
  }),
]);
for (const name of WASM) {
  await copyFile(join(packages, "@litertjs/core/wasm", name), join(folder, name));
}
await writeFile(join(folder, "LICENSES.txt"), await licences(bundles));
