"use strict";

/* Tables of class "sortable": a button in every heading sorts by its column. Its column's `data-first` says which way the
   first press sorts; cells without a value come last both ways; equal ones keep their order. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const given = [...body.rows];
  const status = table.closest("section").querySelector("[role=status]");

  const compare = (first, second) =>
    Number.isNaN(Number(first)) || Number.isNaN(Number(second))
      ? first.localeCompare(second, undefined, { numeric: true })
      : Number(first) - Number(second);

  const sort = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const known = given.filter((row) => value(row) !== "");
    const missing = given.filter((row) => value(row) === "");
    body.append(...known.sort((a, b) => sign * compare(value(a), value(b))), ...missing);
    for (const heading of headings) heading.removeAttribute("aria-sort");
    headings[column].setAttribute("aria-sort", direction);
    status.textContent = `Sorted by ${headings[column].dataset.label}, ${direction}`;
  };

  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const opposite = before === "ascending" ? "descending" : "ascending";
      sort(column, before ? opposite : heading.dataset.first);
    });
  });

  // Without this program, and on paper, there are all columns.
  const more = table.closest("section").querySelector("[data-more-columns]");
  if (!more) continue;
  table.classList.add("brief");
  more.hidden = false;
  more.addEventListener("click", () => {
    more.setAttribute("aria-pressed", !table.classList.toggle("brief"));
  });
}
