"""Members at the site with a real browser: signing in, verifying, challenging a lie, moving money, leaving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from playwright.sync_api import Page, Route, expect

from backend.api.admissions import announced_slots
from backend.api.rpc import catch_up
from backend.api.sessions import COOKIE
from backend.api.views.member import member_day
from backend.api.views.member_statements import statement
from backend.portal.languages import language
from tests.support.injected_wallet import InjectedWallet
from tests.support.web_site import ServedSite

pytestmark = pytest.mark.xdist_group("browser")
# No test depends on it; only a page that hangs does.
SLOW = 120_000
EURO = 10**9
AXE = (Path(__file__).parents[1] / "portal" / "vendor" / "axe.min.js").read_text(encoding="utf-8")
ANY_RESULT = ", ".join(f"[data-result={state}]" for state in ("green", "red", "unknown", "failed"))


def member_key(served: ServedSite, slot: int) -> LocalAccount:
    """A member's wallet."""
    community = served.site.demo.community
    return next(item.wallet for item in community.participants if item.member.slot == slot)


def injected(served: ServedSite, page: Page, slot: int) -> InjectedWallet:
    """A wallet extension with a member's key."""
    site = served.site
    wallet = InjectedWallet(
        member_key(served, slot), site.web3, dict(site.contracts.addresses), site.chain_id
    )
    wallet.install(page.context)
    return wallet


def sign_in(served: ServedSite, page: Page, slot: int = 3) -> None:
    """With a demonstration wallet."""
    page.goto(f"{served.url}/demo")
    choice = page.get_by_label("Demonstration wallet")
    choice.select_option(f"demo:{member_key(served, slot).address}", timeout=SLOW)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/demo/today", timeout=SLOW)


def sign_in_with_extension(served: ServedSite, page: Page) -> None:
    """With the injected wallet."""
    page.goto(f"{served.url}/demo")
    page.get_by_role("button", name="Sign in with Test wallet").click(timeout=SLOW)
    page.wait_for_url("**/demo/today", timeout=SLOW)


def verified(served: ServedSite, page: Page, number: int) -> dict[str, str]:
    """Opens the statement of a batch, presses Verify; the state of every step."""
    period = served.site.batch(number).header.period
    page.goto(f"{served.url}/demo/statements/{period}")
    page.get_by_role("button", name="Verify").click(timeout=SLOW)
    page.wait_for_selector(f"pw-verify:is({ANY_RESULT})", timeout=SLOW)
    lines = page.locator("pw-verify [data-step]")
    return {
        str(line.get_attribute("data-step")): str(line.get_attribute("data-state"))
        for line in lines.all()
    }


def red(steps: dict[str, str]) -> set[str]:
    return {name for name, state in steps.items() if state == "red"}


def assert_accessible(page: Page, element: str) -> None:
    """axe finds nothing in an element as it is now; whole pages are looked at in tests/portal."""
    page.evaluate(AXE)
    found = page.evaluate("async (element) => (await axe.run(element)).violations", element)
    assert [(item["id"], [node["target"] for node in item["nodes"]]) for item in found] == []


def offer(served: ServedSite, page: Page, kind: str, form: str = "") -> None:
    """Puts the element for a transaction on the page that is open."""
    slot = 3
    page.evaluate(
        """async ([prepare, form]) => {
          await import("/static/transactions.js");
          document.querySelector("main").innerHTML =
            `<pw-transaction data-community="demo" data-prepare="${prepare}">${form}</pw-transaction>`;
        }""",
        [f"/api/v1/communities/demo/members/{slot}/{kind}", form],
    )


def settled(page: Page) -> str:
    """What the transaction's element says at the end."""
    status = page.locator("pw-transaction .status")
    expect(status).to_contain_text("Done", timeout=SLOW)
    return status.inner_text()


AMOUNT = '<form><label>Amount <input name="amount_nano" data-scale="1000000000"></label><button>Do it</button></form>'


def test_a_demonstration_wallet_signs_in_and_verifies(served: ServedSite, page: Page) -> None:
    sign_in(served, page)
    cookie = next(item for item in page.context.cookies() if item["name"] == COOKIE)
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    steps = verified(served, page, 1)
    assert set(steps.values()) == {"green"}
    assert len(steps) == 9
    expect(page.locator("pw-verify .status")).to_have_text(
        "Everything is right: your browser has recomputed it."
    )
    assert_accessible(page, "pw-verify")


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_an_installed_wallet_verifies_against_its_own_node(served: ServedSite, page: Page) -> None:
    wallet = injected(served, page, 4)
    sign_in_with_extension(served, page)
    # The site's door lies about everything; the wallet's node does not.
    page.route("**/rpc/demo", lambda route: route.fulfill(json={"jsonrpc": "2.0", "result": "0x0"}))
    assert set(verified(served, page, 1).values()) == {"green"}
    assert "eth_getLogs" in wallet.asked
    page.get_by_label("Ask").select_option("site")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("pw-verify")).to_have_attribute("data-result", "red", timeout=SLOW)


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_somebody_declines(served: ServedSite, page: Page) -> None:
    wallet = injected(served, page, 4)
    wallet.declines = {"personal_sign"}
    page.goto(f"{served.url}/demo")
    page.get_by_role("button", name="Sign in with Test wallet").click(timeout=SLOW)
    expect(page.locator("pw-sign-in .status")).to_have_text(
        "You declined in your wallet. Nothing was sent.", timeout=SLOW
    )
    assert not [item for item in page.context.cookies() if item["name"] == COOKIE]


def change_personal(served: ServedSite, page: Page, **fields: Any) -> None:
    """Lets the site show a member something else than it was given."""

    def tamper(route: Route) -> None:
        answer = route.fetch()
        data = answer.json()
        shown = data["documents"][data["batch_hash"]]
        personal = json.loads(shown["personal"]) | fields
        shown["personal"] = json.dumps(personal, separators=(",", ":"), sort_keys=True)
        route.fulfill(response=answer, json=data)

    page.route("**/evidence", tamper)


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_a_site_that_shows_another_amount_is_found_out(served: ServedSite, page: Page) -> None:
    sign_in(served, page)
    change_personal(served, page, amount_nano=EURO)
    steps = verified(served, page, 1)
    assert red(steps) == {"published", "amount", "proof"}
    reason = page.locator("[data-step=proof] .reason")
    expect(reason).to_contain_text("only what was shown to you is wrong")
    expect(page.locator("pw-verify .remedy button")).to_have_count(0)


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_a_site_that_shows_other_readings_is_found_out(served: ServedSite, page: Page) -> None:
    sign_in(served, page)
    change_personal(served, page, readings="0x" + "00" * 16 * 96)
    steps = verified(served, page, 1)
    assert red(steps) == {"published", "readings"}
    assert {steps[name] for name in ("amount", "proof", "balance")} == {"unknown"}
    expect(page.get_by_label("If you have the oracle's receipt")).to_be_visible()


def as_coordinator(served: ServedSite, page: Page, path: str) -> Page:
    """The coordinator's page, in a browser of its own."""
    browser = page.context.browser
    assert browser
    # Of the same size; the library types what it gives and what it takes differently.
    other = browser.new_context(viewport=page.viewport_size).new_page()  # type: ignore[arg-type]
    other.goto(f"{served.url}/demo")
    key = next(item.key for item in served.site.demo.wallets if item.role == "coordinator")
    choice = other.get_by_label("Demonstration wallet")
    choice.select_option(f"demo:{key.address}", timeout=SLOW)
    other.get_by_role("button", name="Sign in", exact=True).click()
    other.wait_for_url("**/demo/*", timeout=SLOW)
    other.goto(f"{served.url}/demo/{path}")
    return other


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_missing_readings_a_correction_and_a_dispute_are_told_in_words(
    served: ServedSite, page: Page
) -> None:
    site, slot = served.site, 3
    number = served.late_day(slot, range(9, 13))
    period = site.batch(number).header.period
    # While readings are missing: the member is told, the coordinator is told what mends it.
    sign_in(served, page, slot)
    page.goto(f"{served.url}/demo/statements/{period}")
    missing = member_day(site, slot, period)
    assert missing is not None
    lost = missing.totals.missing_intervals
    assert lost >= 16
    expect(page.get_by_text(f"The readings of {lost} intervals are missing")).to_be_visible()
    officer = as_coordinator(served, page, "coordinator")
    expect(officer.locator(".cell.bad")).to_have_text(f"{lost} of 96 missing")
    officer.get_by_role("link", name="What, and how to mend it").click()
    notice = officer.locator(".notice", has_text="Readings are missing").first
    expect(notice).to_contain_text(f"{lost} readings of {site.day(period)} are missing")
    expect(notice).to_contain_text("Mend: Look after the meter and its gateway.")

    # They come in: a correction books the difference, and says what changed.
    corrected = served.rest_comes_in()
    assert site.batch(corrected).header.period == period
    before, after = (statement(site, slot, period, version).summary.due_nano for version in (0, 1))
    page.goto(f"{served.url}/demo/statements/{period}")
    expect(page.locator(".title")).to_contain_text("Correction 1")
    note = page.locator(".notice", has_text="This is a correction")
    for nano in (after - before, after, before):
        amount = language("en").money(nano, "EUR", places=4, signed=True)
        expect(note).to_contain_text(amount)
    note.get_by_text("What changed").click()
    expect(note.locator("tbody tr")).to_have_count(lost)
    expect(note.locator("tbody tr").first).to_contain_text("missing → measured")
    assert_accessible(page, "main")
    assert set(verified(served, page, corrected).values()) == {"green"}
    page.goto(f"{served.url}/demo/statements")
    expect(page.locator(".row-link", has_text="Correction 1")).to_have_count(1)
    expect(page.get_by_text("Provisional").first).to_be_visible()

    # Somebody demands data on chain: disputed for the member, wrong for the coordinator, until the coordinator answers.
    served.demand(slot, corrected)
    page.goto(f"{served.url}/demo/statements/{period}")
    expect(page.locator(".title .state")).to_have_text("Disputed")
    expect(page.get_by_text("Somebody demands data of this day")).to_be_visible()
    officer.goto(f"{served.url}/demo/coordinator/exceptions")
    notice = officer.locator(".notice.bad", has_text="Somebody disputes a day")
    expect(notice).to_contain_text(f"data of batch {corrected} are demanded")
    expect(notice).to_contain_text("See that the coordinator's process runs")
    assert_accessible(officer, "main")
    officer.goto(f"{served.url}/demo/coordinator/periods")
    expect(officer.locator("tbody .state.disputed")).to_have_text("Disputed")
    assert not site.demo.player.step()
    page.reload()
    expect(page.locator(".title .state")).to_have_text("Provisional")
    officer.context.close()


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_an_overcharging_coordinator_is_overturned_from_the_browser(
    served: ServedSite, page: Page
) -> None:
    slot = 5
    number = served.next_day(victim=slot, amount_nano=5 * EURO)
    period = served.site.batch(number).header.period
    injected(served, page, slot)
    sign_in_with_extension(served, page)
    assert red(verified(served, page, number)) == {"amount"}
    expect(page.locator("[data-step=amount] .reason")).to_contain_text("Booked are")
    before = served.site.web3.eth.get_balance(member_key(served, slot).address)
    # The auditor's code, asked by way of the API, comes to the same transaction.
    listed = f"{served.url}/api/v1/communities/demo/members/{slot}/batches/{number}/challenges"
    (prepared,) = page.request.get(listed).json()
    assert prepared["what"] == "challengeAmount"
    page.get_by_role("button", name="Challenge it").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("your readings of this day")
    dialog.get_by_text("What exactly is signed").click()
    expect(dialog.locator("pre")).to_contain_text("challengeAmount")
    assert_accessible(page, "dialog")
    dialog.get_by_role("button", name="Go on").click()
    expect(page.locator("pw-verify .status")).to_contain_text("is overturned", timeout=SLOW)
    assert served.site.contracts.head_number() == number - 1
    # It went through the wallet's own node.
    catch_up(served.site)
    sent = served.site.events("BatchVoided")[-1]["transaction_hash"]
    data = bytes(served.site.web3.eth.get_transaction(sent)["input"])
    assert "0x" + data.hex() == prepared["transaction"]["data"]
    reward = served.site.contracts.parameters().bond_wei // 2
    assert served.site.web3.eth.get_balance(member_key(served, slot).address) > before + reward // 2
    # The day is not gone: it shows as disputed, with a preview, until it is settled anew.
    for _ in range(2):
        served.site.demo.player.step()
    page.goto(f"{served.url}/demo/statements/{period}")
    expect(page.locator(".title .state")).to_have_text("Disputed")
    expect(page.get_by_text("A challenge has overturned this day")).to_be_visible()
    officer = as_coordinator(served, page, "coordinator/exceptions")
    notice = officer.locator(".notice.bad", has_text="A challenge overturned a batch").first
    expect(notice).to_contain_text("Find out what was wrong before it is prepared again.")
    officer.context.close()


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_a_withdrawal_costs_the_member_no_gas(served: ServedSite, page: Page) -> None:
    site = served.site
    sign_in(served, page)
    owner = member_key(served, 3).address
    coins, tokens = site.web3.eth.get_balance(owner), site.contracts.token_balance(owner)
    offer(served, page, "withdrawals", AMOUNT)
    page.get_by_label("Amount").fill("1.25")
    page.get_by_role("button", name="Do it").click()
    expect(page.get_by_role("dialog")).to_contain_text("You pay no gas")
    page.get_by_role("button", name="Go on").click()
    settled(page)
    assert site.contracts.token_balance(owner) - tokens == 1_250_000
    assert site.web3.eth.get_balance(owner) == coins


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_more_than_there_is_is_refused_in_words(served: ServedSite, page: Page) -> None:
    sign_in(served, page)
    faults = page.locator("pw-transaction .status.error")
    offer(served, page, "withdrawals", AMOUNT)
    page.get_by_label("Amount").fill("many")
    page.get_by_role("button", name="Do it").click()
    expect(faults).to_have_text("Give a number with at most 9 decimals.")


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_a_deposit_with_a_permit(served: ServedSite, page: Page) -> None:
    site = served.site
    owner = member_key(served, 3)
    deposited, _ = site.contracts.vault_balances(3)
    wallet = injected(served, page, 3)
    sign_in_with_extension(served, page)
    offer(served, page, "deposits", AMOUNT)
    page.get_by_label("Amount").fill("0,5")
    page.get_by_role("button", name="Do it").click()
    page.get_by_role("button", name="Go on").click()
    settled(page)
    assert site.contracts.vault_balances(3)[0] - deposited == EURO // 2
    assert wallet.asked.count("eth_signTypedData_v4") == 1
    assert site.contracts.token_balance(owner.address) >= 0


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_an_announced_withdrawal(served: ServedSite, page: Page) -> None:
    sign_in(served, page)
    offer(served, page, "announcements", AMOUNT)
    page.get_by_label("Amount").fill("2")
    page.get_by_role("button", name="Do it").click()
    expect(page.get_by_role("dialog")).to_contain_text("You pay its gas")
    page.get_by_role("button", name="Go on").click()
    settled(page)
    (event,) = served.site.events("WithdrawalAnnounced")
    assert (event["slot"], event["tokens"]) == (3, 2_000_000)


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_a_wallet_that_changes_its_account_signs_nothing(served: ServedSite, page: Page) -> None:
    wallet = injected(served, page, 3)
    sign_in_with_extension(served, page)
    wallet.key = member_key(served, 4)
    offer(served, page, "departures")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("pw-transaction .status")).to_contain_text(
        "another account than the one that signed in", timeout=SLOW
    )
    assert "eth_signTypedData_v4" not in wallet.asked


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
@pytest.mark.parametrize("spoiled", [{"to": "0x" + "77" * 20}, {"data": "0xa9059cbb" + "00" * 64}])
def test_a_site_that_prepares_something_else_gets_nothing_sent(
    served: ServedSite, page: Page, spoiled: dict[str, str]
) -> None:
    def tamper(route: Route) -> None:
        answer = route.fetch()
        data = answer.json()
        route.fulfill(response=answer, json=data | {"transaction": data["transaction"] | spoiled})

    sign_in(served, page)
    page.route("**/announcements", tamper)
    before = served.site.web3.eth.block_number
    offer(served, page, "announcements", AMOUNT)
    page.get_by_label("Amount").fill("1")
    page.get_by_role("button", name="Do it").click()
    if "to" in spoiled:
        page.get_by_role("button", name="Go on").click()
    expect(page.locator("pw-transaction .status")).to_have_text(
        "This transaction calls something unknown. It is not sent.", timeout=SLOW
    )
    assert served.site.web3.eth.block_number == before


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_leaving_costs_no_gas(served: ServedSite, page: Page) -> None:
    site = served.site
    sign_in(served, page)
    coins = site.web3.eth.get_balance(member_key(served, 3).address)
    first = site.contracts.first_future_period()
    offer(served, page, "departures")
    page.get_by_role("button", name="Go on").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(site.day(first))
    dialog.get_by_role("button", name="Go on").click()
    settled(page)
    assert site.contracts.member_at(3).until_period == first
    assert site.web3.eth.get_balance(member_key(served, 3).address) == coins


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_the_registrar_announces_an_admission(
    served: ServedSite, page: Page, tmp_path: Path
) -> None:
    """Somebody signs, the registrar announces; the admission itself is refused until the delay is over."""
    site = served.site
    sign_in(served, page)
    page.goto(f"{served.url}/demo/join")
    node, tariff_class = sorted(site.rules.preparer(0).market.group_index)[0]
    page.get_by_label("Place in the network").select_option(node)
    page.get_by_label("Tariff class").select_option(tariff_class)
    page.get_by_role("button", name="Sign your consent").click()
    with page.expect_download(timeout=SLOW) as given:
        page.get_by_role("dialog").get_by_role("button", name="Go on").click()
    consent = tmp_path / "consent.json"
    given.value.save_as(consent)
    administrator = site.demo.community.account("administrator")
    payer = site.web3.eth.accounts[0]
    site.web3.eth.send_transaction({"from": payer, "to": administrator.address, "value": 10**18})
    page.context.clear_cookies()
    page.goto(f"{served.url}/demo")
    choice = page.get_by_label("Demonstration wallet")
    choice.select_option(f"demo:{administrator.address}", timeout=SLOW)
    with page.expect_navigation(timeout=SLOW):
        page.get_by_role("button", name="Sign in", exact=True).click()
    page.goto(f"{served.url}/demo/join")
    assert_accessible(page, "main")
    for title, outcome in (
        ("Announce an admission", "Done"),
        ("Admit a member", "The contract would refuse it: AccessManagerNotReady."),
    ):
        page.get_by_label("File with the consent").set_input_files(consent)
        page.get_by_role("button", name="Prepare the transaction").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text(title, timeout=SLOW)
        expect(dialog).to_contain_text("Can be made from")
        dialog.get_by_role("button", name="Go on").click()
        status = page.locator("pw-transaction .status").nth(1)
        expect(status).to_contain_text(outcome, timeout=SLOW)
    slot = json.loads(consent.read_text())["slot"]
    assert announced_slots(site) == {slot}
