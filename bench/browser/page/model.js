// The model in this browser: wllama's own calls, one token at a time, greedy.

import { Wllama } from "./wllama.js";

const WASM = { "single-thread/wllama.wasm": "single.wasm", "multi-thread/wllama.wasm": "multi.wasm" };
const SILENT = { debug() {}, log() {}, warn() {}, error() {} };
// wllama has a store of its own, which needs a secure page; store.js does without.
const NO_STORE = {};

const MOST_THREADS = 64;

/** How many threads the page will use: one where the browser isolates it from no other page. */
function threadsFor(plan) {
  if (!globalThis.crossOriginIsolated) return 1;
  const half = Math.floor((navigator.hardwareConcurrency || 2) / 2);
  return plan.threads ?? Math.min(MOST_THREADS, Math.max(1, half));
}

/** A loaded model. */
export class Model {
  constructor(wllama, plan, threads) {
    this.wllama = wllama;
    this.plan = plan;
    this.threads = threads;
    this.read = []; // the tokens in the context, as far as they were read
    this.stopIds = new Set(plan.stop_ids);
  }

  static async load(plan, blobs) {
    const threads = threadsFor(plan);
    const quiet = { suppressNativeLog: true, logger: SILENT };
    const wllama = new Wllama(WASM, { ...quiet, cacheManager: NO_STORE, modelManager: NO_STORE });
    await wllama.loadModel(blobs, {
      n_ctx: plan.context,
      n_batch: Math.min(512, plan.context),
      n_threads: threads,
      flash_attn: true, // as the host
    });
    await wllama.samplingInit({ temp: 0 });
    return new Model(wllama, plan, threads);
  }

  tokenize(text) {
    return this.wllama.tokenize(text, true);
  }

  /** Forget the context, so that the next prompt is read whole. */
  async forget() {
    await this.wllama.kvClear();
    this.read = [];
  }

  /** Read the tokens of a prompt that were not read before; the last one always. */
  async readPrompt(ids) {
    let common = 0;
    const most = Math.min(this.read.length, ids.length - 1);
    while (common < most && this.read[common] === ids[common]) common++;
    if (common > 0 && common < this.read.length && !(await this.keep(common))) common = 0;
    if (common === 0) await this.forget();
    this.read = []; // until the prompt is read: an error leaves a part of it in the context
    await this.wllama.decode(ids.slice(common), {});
    this.read = [...ids];
  }

  /** Keep only the first tokens of the context; false where a state, as LFM2's, cannot go back to them. */
  async keep(length) {
    try {
      await this.wllama.kvRemove(length, -1);
      return true;
    } catch {
      return false;
    }
  }

  /** New tokens after a prompt: {id, bytes, seconds since the call}. */
  async *tokens(ids, limit, { stop = true, isStopped = () => false } = {}) {
    const begin = performance.now();
    await this.readPrompt(ids);
    for (let made = 0; made < limit && !isStopped(); made++) {
      const { token, piece } = await this.wllama.samplingSample();
      yield { id: token, bytes: piece, seconds: (performance.now() - begin) / 1000 };
      if ((stop && this.stopIds.has(token)) || made + 1 === limit) return;
      await this.wllama.decode([token], {});
      this.read.push(token);
    }
  }
}

/** An earlier reply as the template has it: with the model's thoughts, or without. */
function earlier(reply, thoughts) {
  if (thoughts === "kept" || !reply.includes("</think>")) return reply;
  const said = reply.split("</think>").at(-1);
  return thoughts === "dropped" ? said : said.trim();
}

/** The text that the model reads: the template's pieces around what is said, as the host renders it. */
export function render(template, messages) {
  let text = template.start;
  for (const { role, content } of messages) {
    if (role === "user") text += content;
    else if (role === "assistant") {
      text += template.before_assistant + earlier(content, template.thoughts) + template.after_assistant;
    } else if (template.after_system !== null) text += content + template.after_system;
  }
  return text + template.reply;
}
