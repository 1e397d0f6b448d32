// The pages work without it: it brings the current page of the navigation into view, and lets a printed page show its tables.
"use strict";
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
document.querySelectorAll(".cut").forEach((cut) => {
  const handle = cut.querySelector("#at"), rows = cut.querySelectorAll("#cuts tbody tr"), bars = cut.querySelectorAll(".columns rect"), said = cut.querySelectorAll("[data-said]");
  const kept = cut.querySelector("form[method=post]");
  handle.addEventListener("input", () => {
    const row = rows[handle.value - 1];
    said.forEach((it) => { it.textContent = row.querySelector(`[data-name=${it.dataset.said}]`).textContent; });
    bars.forEach((bar, place) => bar.setAttribute("class", place >= row.dataset.bar ? "fill main" : "fill other"));
    kept.elements.size.value = row.dataset.count;
    kept.elements.at.value = handle.value;
  });
  document.documentElement.classList.add("scripted");
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((it) => { if (!it.open) { it.open = true; it.dataset.printed = ""; } }));
addEventListener("afterprint", () => document.querySelectorAll("details[data-printed]").forEach((it) => { it.open = false; delete it.dataset.printed; }));
