// The pages work without it: it brings the current page of the navigation into view, and lets a printed page show its tables.
"use strict";
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
// A move of a handle asks the service for its numbers; what a form keeps is what is shown. Only the last move counts.
document.querySelectorAll(".cut").forEach((cut) => {
  const form = cut.querySelector(".handle"), { at, skip } = form.elements, bars = cut.querySelectorAll(".columns rect");
  let asked;
  form.addEventListener("input", async (event) => {
    if (event.target.type === "number") return;
    if (event.target === skip) skip.value = Math.min(skip.value, at.value - 1);
    else if (+skip.value >= +at.value) skip.value = at.value - 1;
    asked?.abort();
    asked = new AbortController();
    const query = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(`/console/audiences/cut?${query}`, { signal: asked.signal, redirect: "error" });
      if (!answer.ok) throw new Error(answer.status);
      const cutAt = await answer.json();
      cut.querySelectorAll("[data-said]").forEach((it) => { it.textContent = cutAt.said[it.dataset.said]; });
      cut.querySelectorAll("output").forEach((it, place) => { it.textContent = cutAt.places[place]; });
      bars.forEach((bar, place) => bar.setAttribute("class", place >= cutAt.bars[0] && place <= cutAt.bars[1] ? "fill main" : "fill other"));
      cut.querySelector("#power").textContent = cutAt.power;
      document.querySelectorAll("form[method=post]").forEach((it) => { for (const name of ["at", "skip", "held"]) if (it.elements[name]) it.elements[name].value = query.get(name); });
      history.replaceState(null, "", `/console/audiences?${query}`);
    } catch (problem) {
      if (problem.name !== "AbortError") form.submit(); // the page itself says what is the matter, or asks to sign in
    }
  });
  document.documentElement.classList.add("scripted");
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((it) => { if (!it.open) { it.open = true; it.dataset.printed = ""; } }));
addEventListener("afterprint", () => document.querySelectorAll("details[data-printed]").forEach((it) => { it.open = false; delete it.dataset.printed; }));
