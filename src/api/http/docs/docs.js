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

/** A row of a table; on a narrow page each cell stands in a line of its own, after its label. */
function row(...cells) {
  return element("tr", {}, ...cells.map(([label, content, look]) => element("td", { "data-label": label, ...(look ? { class: look } : {}) }, content)));
}

function rows(body, document) {
  body.replaceChildren();
  const required = document.required || [];
  for (const [name, property] of Object.entries(document.properties || {})) {
    const meaning = [property.title, property.description].filter(Boolean).join(": ");
    const unit = property["x-unit"] ? ` [${property["x-unit"]}]` : "";
    body.append(row(
      ["field", element("code", {}, name)],
      ["type", type(property)],
      ["rules", rules(property, required.includes(name)), "rules"],
      ["meaning", meaning + unit]));
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
  files(schema(model.name, "instance"));
  versions(model.name);
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

/** Which version has which role and share of the traffic now; the evidence of a rollout is the operators'. */
async function versions(name) {
  const [body, note] = [by("versions"), by("rollout")];
  body.replaceChildren();
  note.textContent = "";
  let model;
  try {
    const response = await fetch(`/models/${encodeURIComponent(name)}`);
    if (!response.ok) throw new Error(`status ${response.status}`);
    model = await response.json();
  } catch (error) {
    if (current.name === name) note.textContent = `The versions could not be read: ${error.message}`;
    return;
  }
  // The user may have chosen another model during the request, or the same one again.
  if (current.name !== name) return;
  const { rollout } = model;
  const given = rollout ? rollout.candidates.reduce((sum, one) => sum + one.weight, 0) : 0;
  const share = ({ version, role }) => {
    const candidate = rollout?.candidates.find((one) => one.version === version);
    if (!candidate) return role === "stable" ? percent(1 - given) : "";
    return rollout.shadow_share > 0 ? `copies of ${percent(rollout.shadow_share)}` : percent(candidate.weight);
  };
  body.replaceChildren(...model.versions.map((version) => row(
    ["version", element("code", {}, version.version)],
    ["role", version.role || ""],
    ["state", [version.state, version.reason, version.warning].filter(Boolean).join(": "), "rules"],
    ["traffic", share(version)])));
  if (rollout) note.textContent = `Rollout: plan ${rollout.plan}, step ${rollout.step + 1}.`;
  else if (model.pinned) note.textContent = `The configuration pins ${model.pinned}.`;
}

function percent(share) {
  return `${+(100 * share).toFixed(2)} %`;
}

/** A file picker for each field of base64; what is picked goes into the first instance of the request. */
function files(document) {
  const fields = Object.entries(document.properties || {}).filter(([, property]) => property.contentEncoding === "base64");
  by("files").replaceChildren(...fields.map(([name, property]) => {
    const input = element("input", { type: "file", accept: property.contentMediaType || "", "data-field": name });
    input.addEventListener("change", () => { if (input.files[0]) fill(name, input.files[0]); });
    return element("label", { class: "file" }, element("code", {}, name), " ", input);
  }));
}

function fill(name, file) {
  const reader = new FileReader();
  const model = current;
  reader.addEventListener("error", () => { by("timing").textContent = `${file.name} could not be read`; });
  reader.addEventListener("load", () => {
    if (current !== model) return;
    let body;
    try {
      body = JSON.parse(by("body").value);
    } catch {
      body = {};
    }
    let instance = Array.isArray(body?.instances) ? body.instances[0] : body;
    if (instance === null || typeof instance !== "object") instance = body = {};
    instance[name] = reader.result.slice(reader.result.indexOf(",") + 1);
    by("body").value = JSON.stringify(body, null, 2);
  });
  reader.readAsDataURL(file);
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
