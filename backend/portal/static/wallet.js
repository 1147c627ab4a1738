// Wallets: those that browsers have (EIP-6963, or `window.ethereum` of before), and in demonstrations wallets without an extension,
// whose keys everybody knows. All are asked by EIP-1193's `request`, so nothing else here knows which kind it is.

import { get } from "./api.js";
import { httpNode } from "./chain.js";
import { text } from "./texts.js";
import { Wallet, getAddress, getBytes, isHexString } from "./vendor/ethers.min.js";

const REMEMBERED = "peerwatt.wallet";
const ANNOUNCE_MILLISECONDS = 150;
// EIP-1193 and what wallets answer to a chain that they do not know.
const UNKNOWN_CHAIN = 4902;
const UNSUPPORTED = 4200;

const hex = (number) => `0x${BigInt(number).toString(16)}`;

/** Wallets that the browser has, as `{ id, name, icon, provider }`. */
export async function installedWallets() {
  const found = new Map();
  const announced = ({ detail: { info, provider } }) =>
    found.set(info.uuid, { id: info.rdns, name: info.name, icon: info.icon, provider });
  window.addEventListener("eip6963:announceProvider", announced);
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  await new Promise((resolve) => setTimeout(resolve, ANNOUNCE_MILLISECONDS));
  window.removeEventListener("eip6963:announceProvider", announced);
  const wallets = [...found.values()];
  const { ethereum } = window;
  if (ethereum && !wallets.some(({ provider }) => provider === ethereum)) {
    wallets.push({ id: "window.ethereum", name: "", icon: null, provider: ethereum });
  }
  return wallets;
}

/** The demonstration's wallets, as `{ id, name, role, provider }`; none on a real site. */
export async function demoWallets(community) {
  if (!community.demo) return [];
  const listed = await get(`/api/v1/communities/${community.name}/demo-wallets`);
  return listed.map(({ role, name, address, private_key: key }) => ({
    id: `demo:${address}`,
    name,
    role,
    provider: new DemoProvider(key, community),
  }));
}

/** Signs in the page with a key that is no secret. */
class DemoProvider {
  constructor(key, community) {
    this.wallet = new Wallet(key);
    this.chainId = community.chain_id;
    this.node = httpNode(`/rpc/${community.name}`);
  }

  async request({ method, params = [] }) {
    switch (method) {
      case "eth_requestAccounts":
      case "eth_accounts":
        return [this.wallet.address];
      case "eth_chainId":
        return hex(this.chainId);
      case "personal_sign":
        return this.wallet.signMessage(isHexString(params[0]) ? getBytes(params[0]) : params[0]);
      case "eth_signTypedData_v4":
        return this.signTyped(JSON.parse(params[1]));
      case "eth_sendTransaction":
        return this.send(params[0]);
      case "wallet_switchEthereumChain":
        return null;
      default:
        return this.node.request({ method, params });
    }
  }

  signTyped({ domain, types, primaryType, message }) {
    const { EIP712Domain: _, ...own } = types;
    // ethers takes the first type that no other one has for the main one.
    const { [primaryType]: main, ...others } = own;
    return this.wallet.signTypedData(domain, { [primaryType]: main, ...others }, message);
  }

  async send({ to, data, value = "0x0" }) {
    const from = this.wallet.address;
    const ask = (method, ...params) => this.node.request({ method, params });
    const [nonce, gas, block] = await Promise.all([
      ask("eth_getTransactionCount", from, "latest"),
      ask("eth_estimateGas", { from, to, data, value }),
      ask("eth_getBlockByNumber", "latest", false),
    ]);
    const tip = 1_000_000_000n;
    const signed = await this.wallet.signTransaction({
      type: 2,
      chainId: this.chainId,
      nonce: Number(nonce),
      to,
      data,
      value,
      gasLimit: (BigInt(gas) * 115n) / 100n,
      maxFeePerGas: 2n * BigInt(block.baseFeePerGas ?? 0) + tip,
      maxPriorityFeePerGas: tip,
    });
    return ask("eth_sendRawTransaction", signed);
  }
}

/** A wallet in use: its account, and the community's chain. */
export class ConnectedWallet {
  constructor(wallet, address, community) {
    Object.assign(this, { id: wallet.id, name: wallet.name, provider: wallet.provider });
    this.address = address;
    this.community = community;
  }

  get isDemo() {
    return this.provider instanceof DemoProvider;
  }

  ask(method, ...params) {
    return this.provider.request({ method, params });
  }

  async isOnChain() {
    return BigInt(await this.ask("eth_chainId")) === BigInt(this.community.chain_id);
  }

  /** Brings the wallet to the community's chain. */
  async switchChain() {
    if (await this.isOnChain()) return;
    const chainId = hex(this.community.chain_id);
    try {
      await this.ask("wallet_switchEthereumChain", { chainId });
    } catch (error) {
      if (error?.code !== UNKNOWN_CHAIN && error?.code !== UNSUPPORTED) throw error;
      const { name, title, currency_symbol: symbol = "ETH" } = this.community;
      await this.ask("wallet_addEthereumChain", {
        chainId,
        chainName: title,
        rpcUrls: [new URL(`/rpc/${name}`, location.href).href],
        nativeCurrency: { name: symbol, symbol, decimals: 18 },
      });
    }
  }

  signText(message) {
    const bytes = new TextEncoder().encode(message);
    const shown = `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    return this.ask("personal_sign", shown, this.address);
  }

  /** Signs EIP-712 data. Contract wallets ask about the chain that they are on. */
  async signTyped(data) {
    await this.switchChain();
    return this.ask("eth_signTypedData_v4", this.address, JSON.stringify(data));
  }

  async send({ to, data, value }) {
    await this.switchChain();
    return this.ask("eth_sendTransaction", { from: this.address, to, data, value: hex(value ?? 0) });
  }
}

/** Asks a wallet for its account, and remembers the choice for this tab. */
export async function connect(wallet, community) {
  const [address] = await wallet.provider.request({ method: "eth_requestAccounts" });
  sessionStorage.setItem(REMEMBERED, wallet.id);
  return new ConnectedWallet(wallet, getAddress(address), community);
}

/** The wallet used before in this tab, if it still shows an account without being asked for it. */
export async function reconnect(community) {
  const id = sessionStorage.getItem(REMEMBERED);
  if (!id) return null;
  const wallets = id.startsWith("demo:") ? await demoWallets(community) : await installedWallets();
  const wallet = wallets.find((candidate) => candidate.id === id);
  if (!wallet) return null;
  const [address] = await wallet.provider.request({ method: "eth_accounts" });
  return address ? new ConnectedWallet(wallet, getAddress(address), community) : null;
}

/** The wallet of whoever has signed in. */
export async function signedInWallet(community) {
  const wallet = await reconnect(community);
  if (!wallet) throw new Error(text("No wallet is connected. Sign in again."));
  const { address } = await get(`/api/v1/communities/${community.name}/me`);
  if (address !== wallet.address) {
    throw new Error(
      text("Your wallet shows another account than the one that signed in. Sign in again."),
    );
  }
  return wallet;
}

/** The text that a wallet signs to sign in (EIP-4361). */
export function signInText(terms, address, chainId) {
  return [
    `${terms.domain} wants you to sign in with your Ethereum account:`,
    address,
    "",
    terms.statement,
    "",
    `URI: ${terms.uri}`,
    `Version: ${terms.version}`,
    `Chain ID: ${chainId}`,
    `Nonce: ${terms.nonce}`,
    `Issued At: ${terms.issued_at}`,
    `Expiration Time: ${terms.expiration_time}`,
  ].join("\n");
}
