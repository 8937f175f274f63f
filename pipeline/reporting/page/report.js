"use strict";
(() => {
  // Everything can be read without this: it only narrows the table of documents, and opens what is folded for printing.
  const filter = document.getElementById("filter");
  if (filter) {
    const words = document.getElementById("words");
    const found = document.getElementById("found");
    const buttons = [...filter.querySelectorAll("button")];
    const rows = [...document.querySelectorAll("#documents tbody tr")].map((row) => ({
      row, kind: row.dataset.kind, text: row.textContent.toLowerCase(),
    }));
    const narrow = () => {
      const wanted = words.value.trim().toLowerCase();
      const kinds = new Set(buttons.filter((each) => each.ariaPressed === "true").map((each) => each.value));
      let shown = 0;
      for (const { row, kind, text } of rows) {
        row.hidden = !kinds.has(kind) || !text.includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      found.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} shown`;
    };
    filter.hidden = false;
    filter.addEventListener("submit", (event) => event.preventDefault());
    words.addEventListener("input", narrow);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
        narrow();
      });
    }
    narrow();
  }
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
  });
})();
