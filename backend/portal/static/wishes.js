// The form of wishes as the body that is to be signed: partners by what was chosen of each, prices in nano per Wh.

import { scaled } from "./transactions.js";

/** A price as people write it, in hundredths of the currency per kWh; empty is zero. */
function price(form, name) {
  const { value, dataset } = form.elements[name];
  return value.trim() ? scaled(value, dataset.scale) : 0;
}

function wishesOf(form) {
  if (form.elements.automatic.value === "yes") return { automatic: true };
  const chosen = (stance) =>
    [...form.querySelectorAll("[data-partner]")]
      .filter(({ value }) => value === stance)
      .map(({ dataset }) => Number(dataset.partner));
  const premium = price(form, "partner_premium");
  return {
    automatic: false,
    buy_limit_nano_per_wh: price(form, "buy_limit"),
    sell_limit_nano_per_wh: price(form, "sell_limit"),
    green_premium_nano_per_wh: price(form, "green_premium"),
    local_premium_nano_per_wh: price(form, "local_premium"),
    preferred: chosen("preferred").map((slot) => ({ slot, premium_nano_per_wh: premium })),
    refused: chosen("refused"),
  };
}

for (const found of document.querySelectorAll("[data-wishes]")) {
  found.bodyOf = wishesOf;
  found.addEventListener("pw-done", () => location.reload());
}
