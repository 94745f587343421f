// Reads tokenizers with transformers.js: node probe.mjs FOLDER OUT. The same result.json as probe.py's.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, out, modules] = process.argv.slice(2);
const entry = createRequire(join(modules, "x.js")).resolve("@huggingface/transformers");
const { AutoTokenizer, env } = await import(pathToFileURL(entry));
env.allowRemoteModels = false;
env.localModelPath = join(folder, "models");
const asked = JSON.parse(readFileSync(join(folder, "asked.json")));
const results = {};
for (const name of readdirSync(env.localModelPath).sort()) {
  try {
    const tokenizer = await AutoTokenizer.from_pretrained(name);
    const chat = tokenizer.apply_chat_template(asked.chat, { tokenize: false, add_generation_prompt: true });
    const ids = asked.texts.map((text) => Array.from(tokenizer(text).input_ids.data, Number));
    results[name] = { ids, chat };
  } catch (error) {
    results[name] = { error: `${error}`.slice(0, 160) };
  }
}
writeFileSync(join(out, "result.json"), JSON.stringify(results));
