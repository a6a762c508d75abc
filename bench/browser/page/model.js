// The model in this browser: wllama's own calls, one token at a time, greedy.

import { Wllama } from "./wllama.js";

const WASM = { "single-thread/wllama.wasm": "single.wasm", "multi-thread/wllama.wasm": "multi.wasm" };
const SILENT = { debug() {}, log() {}, warn() {}, error() {} };
// wllama has a store of its own, which needs a secure page; store.js does without.
const NO_STORE = {};

/** How many threads the page will use: one where the browser isolates it from no other page. */
function threadsFor(plan) {
  if (!globalThis.crossOriginIsolated) return 1;
  return plan.threads ?? Math.max(1, Math.floor((navigator.hardwareConcurrency || 2) / 2));
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
    if (common === 0) {
      await this.forget();
    } else if (common < this.read.length) {
      await this.wllama.kvRemove(common, -1);
      this.read.length = common;
    }
    await this.wllama.decode(ids.slice(common), {});
    this.read = [...ids];
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

/** The text that the model reads: the template's pieces around what is said, as the host renders it. */
export function render(template, messages) {
  let text = template.start;
  for (const { role, content } of messages) {
    if (role === "user") text += content;
    else if (role === "assistant") text += template.before_assistant + content + template.after_assistant;
    else if (template.after_system !== null) text += content + template.after_system;
  }
  return text + template.reply;
}
