// The configuration page of the custom activity. Journey Builder shows it in a frame and speaks with it in Postmonger's messages:
// postMessage of JSON, the event's name as `e`, its arguments as `a1`, `a2`, ...
"use strict";

const SALESFORCE = /^https:\/\/([a-z0-9-]+\.)+(exacttarget|marketingcloudapps)\.com$/;
const form = document.getElementById("activity");
let activity; // as Journey Builder gave it
let builder; // its origin, once it has spoken

function tell(event, ...values) {
  const message = { e: event };
  values.forEach((value, place) => (message[`a${place + 1}`] = value));
  // Before it has spoken nothing but "ready" is said, which is no secret.
  window.parent.postMessage(JSON.stringify(message), builder || "*");
}

function show(given) {
  activity = given;
  const saved = Object.assign({}, ...((given.arguments && given.arguments.execute && given.arguments.execute.inArguments) || []));
  for (const name of ["audience", "user_id", "branches"]) {
    if (saved[name]) form.elements[name].value = saved[name];
  }
  document.getElementById("done").disabled = false;
}

function waysOut(branches) {
  const wanted = { audience: ["in", "out", "holdout", "fallback"], prediction: ["low", "medium", "high", "fallback"] }[branches];
  const had = Object.fromEntries((activity.outcomes || []).map((outcome) => [outcome.arguments.branchResult, outcome]));
  const labels = { in: "In the audience", out: "Not in it", holdout: "Held out", low: "Low", medium: "Medium", high: "High", fallback: "Nothing known" };
  // One that the journey has keeps what the canvas hung on it.
  return wanted.map((branch) => had[branch] || { arguments: { branchResult: branch }, metaData: { label: labels[branch] } });
}

function save() {
  const problem = document.getElementById("problem");
  problem.textContent = "";
  if (!activity) return;
  const chosen = Object.fromEntries(["audience", "branches", "user_id"].map((name) => [name, form.elements[name].value.trim()]));
  if (!chosen.audience || !chosen.user_id) {
    problem.textContent = "Give the name and the user id.";
    tell("setActivityDirtyState", true);
    return;
  }
  activity.arguments.execute.inArguments = [chosen];
  // The calls around publishing carry no arguments, so their addresses say what was chosen.
  const query = new URLSearchParams({ audience: chosen.audience, branches: chosen.branches });
  for (const call of Object.values(activity.configurationArguments || {})) {
    if (call && call.url) call.url = `${call.url.split("?")[0]}?${query}`;
  }
  activity.outcomes = waysOut(chosen.branches);
  activity.name = `Encore: ${chosen.audience}`;
  activity.metaData.isConfigured = true;
  tell("updateActivity", activity);
}

window.addEventListener("message", (event) => {
  if (event.source !== window.parent || !SALESFORCE.test(event.origin)) return;
  let message;
  try {
    message = JSON.parse(event.data);
  } catch {
    return;
  }
  if (message.e === "initActivity") {
    builder = event.origin;
    show(message.a1);
  } else if (message.e === "clickedNext") {
    save();
  }
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
document.getElementById("cancel").addEventListener("click", () => {
  tell("setActivityDirtyState", false);
  tell("requestInspectorClose");
});
tell("ready");
