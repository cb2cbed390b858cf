"use strict";

/* Button for light or dark colors; without a choice the page follows the system. */
{
  const root = document.documentElement;
  const button = document.querySelector("[data-theme-button]");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => {
    button.textContent = isDark() ? "Light colors" : "Dark colors";
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("discrete-ae-theme", root.dataset.theme);
    } catch {} // the choice then lasts until the page is closed
    show();
  });
  system.addEventListener("change", show);
  show();
}

/* Buttons in the headings of the table sort by their column. The column's `data-first` is the order of the first press.
   Cells without a value always come last; equal ones keep their order. */
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const given = [...table.tBodies[0].rows];
  const status = table.closest("section").querySelector("[role=status]");

  const compare = (first, second) => first - second || first.localeCompare(second, undefined, { numeric: true });

  const sort = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const known = given.filter((row) => value(row) !== "");
    const missing = given.filter((row) => value(row) === "");
    table.tBodies[0].append(...known.sort((a, b) => sign * compare(value(a), value(b))), ...missing);
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
}

/* Buttons that show more: minor columns of the table, or an enlarged plot. */
for (const button of document.querySelectorAll("[data-more]")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.closest("section, figure").classList.toggle("more"));
  });
}
