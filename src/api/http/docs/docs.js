"use strict";

const by = (id) => document.getElementById(id);
let api = null;
let current = null;

/** An element with text and children; text is never taken for markup. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function models() {
  const paths = Object.keys(api.paths).filter((path) => /^\/models\/[^{/]+\/predict$/.test(path));
  return paths.map((path) => ({ path, name: path.split("/")[2] }));
}

function schema(name, part) {
  return api.components.schemas[`${name}.${part}`] || {};
}

function type(property) {
  const names = [].concat(property.type || []);
  if (property.contentEncoding) return `${names.join(" | ")} (${property.contentEncoding}${property.contentMediaType ? ", " + property.contentMediaType : ""})`;
  if (names.includes("array") && property.items) return names.map((name) => (name === "array" ? `array of ${type(property.items)}` : name)).join(" | ");
  return names.join(" | ");
}

const RULES = ["enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format", "minItems", "maxItems"];

function rules(property, required) {
  const texts = RULES.filter((rule) => property[rule] !== undefined).map((rule) => `${rule} ${JSON.stringify(property[rule])}`);
  if (!required) texts.unshift("optional");
  return texts.join(", ");
}

function rows(body, document) {
  body.replaceChildren();
  const required = document.required || [];
  for (const [name, property] of Object.entries(document.properties || {})) {
    const meaning = [property.title, property.description].filter(Boolean).join(": ");
    const unit = property["x-unit"] ? ` [${property["x-unit"]}]` : "";
    body.append(
      element("tr", {},
        element("td", {}, element("code", {}, name)),
        element("td", {}, type(property)),
        element("td", { class: "rules" }, rules(property, required.includes(name))),
        element("td", {}, meaning + unit)));
  }
}

function show(name) {
  const model = models().find((candidate) => candidate.name === name) || models()[0];
  if (!model) return;
  current = { ...model, operation: api.paths[model.path].post };
  by("message").hidden = true;
  by("model").hidden = false;
  by("name").textContent = model.name;
  by("version").textContent = current.operation.summary.replace(/^.*now /, "");
  by("description").textContent = current.operation.description || "";
  by("route").textContent = `POST ${model.path}`;
  by("answer").textContent = "Press Send.";
  by("status").textContent = "";
  by("timing").textContent = "";
  rows(by("input"), schema(model.name, "instance"));
  rows(by("output"), schema(model.name, "prediction"));
  example("one");
  for (const link of by("models").querySelectorAll("a")) {
    if (link.textContent === model.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function example(which) {
  const examples = current.operation.requestBody.content["application/json"].examples || {};
  by("body").value = examples[which] ? JSON.stringify(examples[which].value, null, 2) : "{}";
}

async function send(event) {
  event.preventDefault();
  by("status").textContent = "…";
  const start = performance.now();
  try {
    const response = await fetch(current.path, { method: "POST", headers: { "content-type": "application/json" }, body: by("body").value });
    const text = await response.text();
    by("status").textContent = `${response.status} in ${(performance.now() - start).toFixed(1)} ms`;
    by("status").className = response.ok ? "good" : "bad";
    try {
      by("answer").textContent = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      by("answer").textContent = text;
    }
    const timing = response.headers.get("server-timing");
    by("timing").textContent = timing ? `server: ${timing.replaceAll(";dur=", " ")} (ms)` : "";
  } catch (error) {
    by("status").textContent = "no answer";
    by("status").className = "bad";
    by("answer").textContent = String(error);
  }
}

function curl() {
  const quoted = by("body").value.replaceAll("'", "'\\''");
  const text = `curl -s ${location.origin}${current.path} -H 'content-type: application/json' -d '${quoted}'`;
  navigator.clipboard?.writeText(text).then(() => { by("timing").textContent = "copied"; }, () => { by("answer").textContent = text; }) ?? (by("answer").textContent = text);
}

async function start() {
  by("form").addEventListener("submit", send);
  by("one").addEventListener("click", () => example("one"));
  by("several").addEventListener("click", () => example("several"));
  by("copy").addEventListener("click", curl);
  addEventListener("hashchange", () => show(decodeURIComponent(location.hash.slice(1))));
  try {
    api = await (await fetch("/openapi.json")).json();
  } catch (error) {
    by("message").textContent = `The server does not answer: ${error}`;
    return;
  }
  for (const { name } of models()) by("models").append(element("li", {}, element("a", { href: `#${encodeURIComponent(name)}` }, name)));
  if (models().length === 0) {
    by("message").replaceChildren("No model answers yet. ", element("a", { href: "/readyz?verbose" }, "See why"), ".");
    return;
  }
  show(decodeURIComponent(location.hash.slice(1)));
}

start();
