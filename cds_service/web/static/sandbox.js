// The table "advice by age" as a slider: one step at a time. Without this script the table says the same.
"use strict";
const table = document.getElementById("by-age");
if (table) {
  const rows = [...table.tBodies[0].rows];
  const box = document.createElement("p");
  box.className = "slider";
  const label = document.createElement("label");
  label.htmlFor = "age-slider";
  label.textContent = "Age";
  const slider = document.createElement("input");
  Object.assign(slider, { id: "age-slider", type: "range", min: 0, max: rows.length - 1, step: 1 });
  slider.value = Math.max(0, rows.findIndex((row) => row.classList.contains("asked")));
  const all = document.createElement("button");
  all.type = "button";
  all.textContent = "All ages";
  const now = document.createElement("output");
  now.htmlFor = "age-slider";
  const show = (chosen) => rows.forEach((row, place) => { row.hidden = chosen !== null && place !== chosen; });
  slider.addEventListener("input", () => {
    const chosen = Number(slider.value);
    show(chosen);
    now.textContent = rows[chosen].dataset.label;
    slider.setAttribute("aria-valuetext", rows[chosen].dataset.label);
  });
  all.addEventListener("click", () => { show(null); now.textContent = ""; });
  box.append(label, slider, now, all);
  table.parentElement.before(box);
}
