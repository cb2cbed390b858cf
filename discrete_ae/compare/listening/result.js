"use strict";

/* Fill the tables of the result: what the listener has rated, and what all have. */
function showResult({ file, own, all, remarks }) {
  const part = (id) => document.getElementById(id);
  const fill = (table, lines) => {
    const rows = lines.map((texts, line) => {
      const row = document.createElement("tr");
      texts.forEach((text, column) => {
        const cell = document.createElement(line && column ? "td" : "th");
        if (cell.tagName === "TH") cell.scope = line ? "row" : "col";
        cell.textContent = text;
        row.append(cell);
      });
      return row;
    });
    table.replaceChildren(...rows);
  };
  fill(part("own"), own);
  fill(part("all"), all);
  part("saved").textContent = `The ratings are saved in ${file}. You can close this page.`;
  part("remarks").replaceChildren(
    ...remarks.map((remark) => Object.assign(document.createElement("li"), { textContent: remark })),
  );
}
