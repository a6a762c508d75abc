// The conversation on the page.

import { render } from "./model.js";
import { signsOf } from "./crisis.js";

const byId = (id) => document.getElementById(id);

export class Chat {
  constructor(model, plan) {
    this.model = model;
    this.plan = plan;
    this.turns = [];
    this.isBusy = false;
    this.isStopped = false;
    this.showsSigns = plan.crisis ? signsOf(plan.crisis) : () => false;
  }

  messages() {
    return [{ role: "system", content: this.plan.system }, ...this.turns];
  }

  /** The prompt's tokens; the oldest turns are left out, in pairs, where they do not fit. */
  async prompt() {
    for (;;) {
      const ids = await this.model.tokenize(render(this.plan.template, this.messages()));
      if (ids.length + this.plan.max_new_tokens <= this.plan.context) return ids;
      if (this.turns.length < 3) throw new Error("This message is too long for the model.");
      this.turns.splice(0, 2);
    }
  }

  async answer(said) {
    this.isBusy = true;
    this.isStopped = false;
    this.turns.push({ role: "user", content: said });
    show("user", "You", said);
    const bubble = show("assistant", "Model", "…");
    bubble.setAttribute("aria-busy", "true"); // a screen reader waits for the whole reply
    try {
      if (this.showsSigns(said)) {
        bubble.lastChild.textContent = this.plan.crisis.reply;
        bubble.classList.add("help");
        this.turns.push({ role: "assistant", content: this.plan.crisis.reply });
      } else {
        await this.generate(bubble);
      }
    } catch (error) {
      this.turns.pop();
      bubble.lastChild.textContent = `Something went wrong: ${error.message}`;
    } finally {
      bubble.removeAttribute("aria-busy");
      this.isBusy = false;
    }
  }

  async generate(bubble) {
    const decoder = new TextDecoder();
    let text = "";
    const times = [];
    const ids = await this.prompt();
    const stop = () => this.isStopped;
    for await (const token of this.model.tokens(ids, this.plan.max_new_tokens, { isStopped: stop })) {
      times.push(token.seconds);
      if (this.model.stopIds.has(token.id)) break;
      text += decoder.decode(token.bytes, { stream: true });
      bubble.lastChild.textContent = text;
    }
    text = (text + decoder.decode()).trim();
    bubble.lastChild.textContent = text || "(nothing)";
    this.turns.push({ role: "assistant", content: text });
    const rate = times.length > 1 ? (times.length - 1) / (times.at(-1) - times[0]) : 0;
    byId("chat-figures").textContent =
      `first token ${times[0].toFixed(2)} s, ${rate.toFixed(1)} tokens/s, ${times.length} tokens; ` +
      `prompt of ${ids.length} tokens`;
  }

  clear() {
    this.turns = [];
    byId("turns").replaceChildren();
    byId("chat-figures").textContent = "";
  }
}

function show(role, who, text) {
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  const name = document.createElement("span");
  name.className = "who";
  name.textContent = `${who}: `;
  turn.append(name, text); // as text, never as HTML
  byId("turns").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}
