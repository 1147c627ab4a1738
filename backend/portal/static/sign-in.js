// <pw-sign-in data-community="NAME" data-next="/NAME/today">: signs in with a wallet (EIP-4361).

import { communityOf, get, post } from "./api.js";
import { element, failure, short, text } from "./texts.js";
import { connect, demoWallets, installedWallets, signInText } from "./wallet.js";

class SignIn extends HTMLElement {
  async connectedCallback() {
    this.status = element("p", { role: "status", class: "status" });
    this.list = element("div", { class: "wallets" });
    this.replaceChildren(this.list, this.status);
    try {
      this.community = await communityOf(this.dataset.community);
      await this.show();
    } catch (error) {
      this.say(failure(error), true);
    }
  }

  say(message, isError = false) {
    this.status.textContent = message;
    this.status.classList.toggle("error", isError);
  }

  async show() {
    const [installed, demos] = await Promise.all([
      installedWallets(),
      demoWallets(this.community),
    ]);
    const parts = installed.map((wallet) => this.button(wallet));
    if (parts.length === 0 && demos.length === 0) {
      parts.push(element("p", {}, text("This browser has no wallet. Install one, then open this page again.")));
    }
    if (demos.length > 0) parts.push(this.demoForm(demos));
    this.list.replaceChildren(...parts);
  }

  button(wallet) {
    const isImage = /^data:image\/(png|svg\+xml|webp|gif|jpeg)[;,]/.test(wallet.icon ?? "");
    const icon = isImage && element("img", { src: wallet.icon, alt: "", width: 24, height: 24 });
    const name = wallet.name || text("Browser wallet");
    const label = text("Sign in with %(wallet)s", { wallet: name });
    const start = () => this.signIn(wallet);
    return element("button", { type: "button", class: "wallet main", onclick: start }, icon || "", label);
  }

  demoForm(demos) {
    const choice = element("select", { id: "demo-wallet", name: "wallet" });
    const roles = grouped(demos);
    for (const [role, wallets] of roles) {
      const options = wallets.map(({ id, name }) => element("option", { value: id }, name));
      choice.append(element("optgroup", { label: text(ROLES[role] ?? "Others") }, ...options));
    }
    const submit = (event) => {
      event.preventDefault();
      this.signIn(demos.find(({ id }) => id === choice.value));
    };
    return element(
      "form",
      { class: "demo", onsubmit: submit },
      element("label", { for: "demo-wallet" }, text("Demonstration wallet")),
      choice,
      element("button", { type: "submit", class: "main" }, text("Sign in")),
      element(
        "p",
        { class: "soft" },
        text("Its key is public: use it for this demonstration only. No extension is needed."),
      ),
    );
  }

  async signIn(wallet) {
    const buttons = this.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      this.say(text("Your wallet asks you to connect and to sign. This moves no money."));
      const connected = await connect(wallet, this.community);
      const terms = await get("/api/v1/session/terms");
      // A page that relays another site's nonce must not get a signature for it.
      if (terms.domain !== location.host) {
        throw new Error(text("The site does not call itself by this address. Nothing was signed."));
      }
      const message = signInText(terms, connected.address, this.community.chain_id);
      await post("/api/v1/session", { message, signature: await connected.signText(message) });
      this.say(text("Signed in as %(address)s.", { address: short(connected.address) }));
      location.assign(this.dataset.next);
    } catch (error) {
      this.say(failure(error), true);
      for (const button of buttons) button.disabled = false;
    }
  }
}

const ROLES = {
  member: "Households",
  coordinator: "Coordinator",
  dso: "Network operator",
  auditor: "Auditor",
  administrator: "Administrator",
};

function grouped(wallets) {
  const found = new Map();
  for (const wallet of wallets) {
    if (!found.has(wallet.role)) found.set(wallet.role, []);
    found.get(wallet.role).push(wallet);
  }
  return found;
}

customElements.define("pw-sign-in", SignIn);
