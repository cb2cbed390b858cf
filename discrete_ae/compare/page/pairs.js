"use strict";

/* The choice of a quantity shows its pairs alone. */
for (const filter of document.querySelectorAll("[data-filter]")) {
  const rows = [...filter.parentElement.querySelectorAll("tr[data-quantity]")];
  const select = filter.querySelector("select");
  const show = () => {
    for (const row of rows) row.hidden = select.value !== "" && row.dataset.quantity !== select.value;
    const shown = rows.filter((row) => !row.hidden).length;
    filter.querySelector("[role=status]").textContent = `${shown} of ${rows.length} shown`;
  };
  select.addEventListener("change", show);
  show();
  filter.hidden = false;
}
