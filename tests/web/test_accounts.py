"""Accounts, consent, deletion, and what stewards may do."""

from __future__ import annotations

from collections.abc import Callable

from visitors import PASSWORD, Arena

from fairground.web.visitor import FORM, SESSION

Make = Callable[..., Arena]


def test_a_guest_keeps_their_votes_on_signing_up(arena: Make) -> None:
    site = arena()
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk)
    someone.vote(talk)
    before = site.site.people.who(someone.client.cookies[SESSION])
    cookie = someone.client.cookies[SESSION]
    someone.sign_up("Ada")
    after = site.site.people.who(someone.client.cookies[SESSION])
    assert before
    assert after
    assert before.person.pseudonym == after.person.pseudonym
    assert site.site.people.who(cookie) is None  # whoever knew the old one is left out
    assert "Ada" in someone.get("/").text
    assert before.person.pseudonym in someone.get("/settings").text


def test_signing_in_and_out(arena: Make) -> None:
    site = arena()
    site.visitor().sign_up("Ada")
    someone = site.visitor()
    wrong = someone.fill("/sign-in", name="Ada", password="another one of these")
    assert wrong.status_code == 401
    assert "do not go together" in wrong.text
    assert 'value="Ada"' in wrong.text
    right = someone.fill("/sign-in", name="ada", password=PASSWORD, to="/chat")
    assert (right.status_code, right.headers["location"]) == (303, "/chat")
    for setting in ("HttpOnly", "SameSite=lax"):
        assert setting in right.headers["set-cookie"]
    assert someone.fill("/sign-out").status_code == 303
    assert someone.get("/settings").status_code == 401
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example"):
        assert someone.fill("/sign-in", name="ada", password=PASSWORD, to=elsewhere).headers["location"] == "/"


def test_guests_vote_only_where_the_steward_lets_them(arena: Make) -> None:
    site = arena()
    steward = site.steward()
    form = {"votes_per_day": "200", "guest_votes_per_day": "40", "battles_per_day": "500", "battle_minutes": "120"}
    assert (
        steward.fill("/steward/limits", **form, open_sign_up="on", keep_text="none", uniform_share="0.5").status_code
        == 303
    )
    settings = site.site.ledger.settings()
    assert (settings["guests_may_vote"], settings["keep_text"], settings["uniform_share"]) == (False, "none", 0.5)
    refused = site.visitor().post("/talks", {"mode": "battle"})
    assert refused.status_code == 403
    assert "Guests do not vote here" in refused.json()["error"]
    assert "Votes need a name here" in site.visitor().get("/").text
    assert "Votes need a name here" not in site.visitor().get("/chat").text
    assert site.site.people.people(guests=True) == site.site.people.people()  # what was refused left no guest behind
    ada = site.visitor().sign_up("Ada")
    assert "Votes need a name here" not in ada.get("/").text
    assert ada.open()["names"] == ["Model A", "Model B"]
    wrong = steward.fill("/steward/limits", **form, keep_text="none", uniform_share="2")
    assert wrong.status_code == 400
    assert "from 0 to 1" in wrong.text


def test_where_others_reach_the_site_guests_do_not_vote_and_accounts_are_made_by_links(arena: Make) -> None:
    private, site = arena(), arena(public=True)  # two sites over one database: nothing is set, so each has its defaults
    steward = private.steward()
    stranger = site.visitor()
    assert stranger.post("/talks", {"mode": "battle"}).status_code == 403
    assert stranger.post("/talks", {"mode": "side_by_side", "models": ["oak-1b", "elm-2b"]}).status_code == 403
    refused = stranger.fill("/sign-up", name="Mallory", password=PASSWORD)
    assert refused.status_code == 403
    assert "ask a steward" in refused.text
    assert 'name="password"' not in stranger.get("/sign-up").text
    assert "/sign-up" not in stranger.get("/sign-in").text
    assert site.site.people.find("Mallory") is None
    assert stranger.open(mode="chat", models=["oak-1b"])["names"] == ["oak-1b"]
    assert site.visitor().fill("/sign-in", name="Stella", password=PASSWORD).status_code == 303

    said = (
        "Other machines can reach this site. Guests may not vote, and accounts are made by a steward's one-time links."
    )
    on_public = site.visitor()
    on_public.client.cookies.update(steward.client.cookies)
    shown = on_public.get("/steward/limits").text.replace("&#39;", "'")
    assert said in shown
    assert said in stranger.get("/methods").text.replace("&#39;", "'")
    assert (
        "Only this machine reaches this site. Guests may vote, and anybody may sign up." in steward.get("/methods").text
    )

    link = on_public.fill("/steward/people/invite", role="contributor").text.split("/join/")[1].split('"')[0]
    invited = site.visitor()
    assert 'name="password"' in invited.get(f"/join/{link}").text
    assert invited.fill("/sign-up", name="Ada", password=PASSWORD, link=link).status_code == 303
    assert invited.open()["names"] == ["Model A", "Model B"]

    site.site.ledger.set_setting("open_sign_up", True, "tests")
    assert "move the leaderboard unseen" in stranger.get("/methods").text
    assert stranger.fill("/sign-up", name="Bob", password=PASSWORD).status_code == 303


def test_a_join_link_survives_signing_in(arena: Make) -> None:
    site = arena()
    link = site.site.people.first_steward_link()
    someone = site.visitor().sign_up("Ada")
    someone.fill("/sign-out")
    back = someone.get(f"/join/{link}").text.split('href="/sign-in?to=')[1].split('"')[0]
    assert someone.fill("/sign-in", name="Ada", password=PASSWORD, to=back.replace("%2F", "/")).headers["location"] == (
        f"/join/{link}"
    )
    assert "Take the role as Ada" in someone.get(f"/join/{link}").text


def test_a_page_that_needs_a_name_is_come_back_to(arena: Make) -> None:
    assert 'href="/sign-in?to=/settings"' in arena().visitor().get("/settings").text


def test_the_first_steward_is_made_by_a_link_that_works_once(arena: Make) -> None:
    site = arena()
    link = site.site.people.first_steward_link()
    someone, late = site.visitor(), site.visitor()
    assert "You were given a role" in someone.get(f"/join/{link}").text
    assert someone.fill("/sign-up", name="Stella", password=PASSWORD, link=link).status_code == 303
    assert someone.get("/steward").status_code == 200
    used = late.fill("/sign-up", name="Late", password=PASSWORD, link=link)
    assert used.status_code == 410
    assert "used before" in used.text
    late.sign_up("Late")
    assert late.get("/steward").status_code == 403
    assert site.visitor().get("/steward").status_code == 401
    # A steward hands on a role by a link of their own.
    given = someone.fill("/steward/people/invite", role="maintainer").text.split("/join/")[1].split('"')[0]
    assert late.fill("/join", link=given).status_code == 303
    assert site.site.people.find("Late").role == "maintainer"  # type: ignore[union-attr]


def test_stewards_switch_models_off_and_release_voters(arena: Make) -> None:
    site = arena()
    steward, voter = site.steward(), site.visitor().sign_up("Ada")
    assert steward.fill("/steward/models", name="oak-1b", offered="off", licence="MIT").status_code == 303
    assert voter.post("/talks", {"mode": "battle"}).status_code == 503
    assert 'href="/steward"' in steward.get("/").text
    assert "Not enough models" in voter.get("/").text
    assert 'href="/steward"' not in voter.get("/").text  # where it would be refused
    assert voter.post("/talks", {"mode": "chat", "models": ["oak-1b"]}).status_code == 400
    assert 'value="MIT"' in steward.get("/steward").text
    assert "<title>Quarantine · Steward · Fairground</title>" in steward.get("/steward/quarantine").text
    ada = site.site.people.find("Ada")
    assert ada
    assert steward.fill("/steward/quarantine", voter=ada.pseudonym, why="Always the same").status_code == 303
    shown = steward.get("/steward/quarantine").text
    assert ada.pseudonym in shown
    assert "always-the-same" in shown
    assert steward.fill("/steward/quarantine/release", voter=ada.pseudonym).status_code == 303
    assert "Nobody is in quarantine" in steward.get("/steward/quarantine").text
    log = steward.get("/steward/log").text
    assert site.site.ledger.head().hash in log
    assert "quarantine" in log
    for path in ("models", "limits", "people", "quarantine", "quarantine/release", "people/invite", "models/open"):
        assert voter.fill(f"/steward/{path}").status_code == 403, path


def test_a_model_that_is_switched_off_answers_nowhere(arena: Make) -> None:
    site = arena()
    steward, someone = site.steward(), site.visitor()
    talk = someone.open()
    someone.ask(talk)
    steward.fill("/steward/models", name="oak-1b", offered="off")

    here = {"host": "127.0.0.1"}
    listed = someone.client.get("/v1/models", headers=here).json()["data"]
    assert [model["id"] for model in listed] == ["elm-2b"]
    hello = {"model": "oak-1b", "messages": [{"role": "user", "content": "Hi"}]}
    for address, asked in (
        ("/v1/chat/completions", hello),
        ("/v1/chat/completions", {**hello, "stream": True}),
        ("/v1/completions", {"model": "oak-1b", "prompt": "Hi"}),
    ):
        before = len(site.writers["oak-1b"].seen)
        answer = someone.client.post(address, json=asked, headers=here)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert len(site.writers["oak-1b"].seen) == before
    assert someone.client.get("/v1/models/oak-1b", headers=here).status_code == 404

    refused = someone.post(f"/talks/{talk['id']}/turns", {"prompt": "And now?"})
    assert refused.status_code == 409
    assert "switched off" in refused.json()["error"]
    assert {"oak", "elm"}.isdisjoint(refused.text.replace("-", " ").split())  # which of the two is not said
    assert someone.vote(talk).status_code == 200  # what was compared before still counts

    steward.fill("/steward/models", name="oak-1b", offered="on")
    assert someone.client.post("/v1/chat/completions", json=hello, headers=here).status_code == 200


def test_a_broken_model_is_opened_again(arena: Make) -> None:
    site = arena()
    steward = site.steward()
    site.writers["oak-1b"].broken = "The engine ran out of memory."
    assert "ran out of memory" in steward.get("/steward").text
    assert site.site.models.ready() == ["elm-2b"]
    site.writers["oak-1b"].broken = None
    assert steward.fill("/steward/models/open", name="oak-1b").status_code == 303
    assert site.site.models.ready() == ["oak-1b", "elm-2b"]


def test_people_take_their_data_and_have_them_erased(arena: Make) -> None:
    site = arena()
    someone = site.visitor().sign_up("Ada")
    talk = someone.open()
    someone.ask(talk, "My dog is called Rex")
    mine = someone.get("/settings/my-data.json").json()
    assert mine["conversations"][0]["models"] is None  # until the vote
    someone.vote(talk, "tie", comment="both know Rex")
    assert someone.fill("/settings/consent", publish="yes").status_code == 303
    mine = someone.get("/settings/my-data.json").json()
    assert mine["name"] == "Ada"
    assert mine["consent"] is True
    assert mine["conversations"][0]["turns"][0]["prompt"] == "My dog is called Rex"
    assert sorted(mine["conversations"][0]["models"]) == ["elm-2b", "oak-1b"]
    assert {"vote", "consent", "role"} == {entry["kind"] for entry in mine["log"]}
    assert someone.fill("/settings/delete").status_code == 400  # not sure
    gone = someone.fill("/settings/delete", sure="yes")
    assert gone.status_code == 200
    assert "Your data are deleted" in gone.text
    assert someone.get("/settings").status_code == 401
    assert site.site.people.find("Ada") is None
    assert len(site.votes()) == 1
    assert b"Rex" not in b"".join(path.read_bytes() for path in site.file.parent.glob("fairground.db*"))


def test_consent_is_asked_after_the_first_vote(arena: Make) -> None:
    site = arena()
    someone = site.visitor()
    talk = someone.open()
    someone.ask(talk)
    assert "be published" in someone.vote(talk).json()["html"]
    assert not site.site.conversations.examples("oak-1b")
    assert someone.post(f"/talks/{talk['id']}/consent", {"agreed": True}).status_code == 200
    assert [shown.battle.id for shown in site.site.conversations.examples("oak-1b")] == [talk["id"]]
    again = someone.open()
    someone.ask(again)
    assert "be published" not in someone.vote(again).json()["html"]
    assert len(site.site.conversations.examples("oak-1b")) == 2
    assert site.visitor().post(f"/talks/{talk['id']}/consent", {"agreed": True}).status_code == 401
    someone.fill("/settings/consent")
    assert not site.site.conversations.examples("oak-1b")


def test_a_new_password_ends_other_sessions(arena: Make) -> None:
    site = arena()
    here, there = site.visitor().sign_up("Ada"), site.visitor()
    there.fill("/sign-in", name="Ada", password=PASSWORD)
    assert here.fill("/settings/password", old="wrong, surely", new="a new one of these").status_code == 401
    assert here.fill("/settings/password", old=PASSWORD, new="a new one of these").status_code == 303
    assert here.get("/settings").status_code == 200
    assert there.get("/settings").status_code == 401


def test_what_keep_text_says_is_done(arena: Make) -> None:
    site = arena()
    for setting, kept in (("keep", "Write to secret@example.org"), ("redact", "Write to <EMAIL>"), ("none", None)):
        site.site.ledger.set_setting("keep_text", setting, "test")
        someone = site.visitor()
        someone.ask(someone.open(mode="chat", models=["oak-1b"]), "Write to secret@example.org")
        turns = someone.get("/settings/my-data.json").json()["conversations"][0]["turns"]
        assert [turn["prompt"] for turn in turns] == ([kept] if kept else [])


def test_forms_are_the_browsers_own(arena: Make) -> None:
    site = arena()
    someone, other = site.visitor(), site.visitor()
    assert someone.csrf != other.csrf
    assert someone.csrf == someone.csrf
    assert "HttpOnly" in site.visitor().get("/").headers["set-cookie"]
    refused = someone.fill("/sign-up", name="Ada", password=PASSWORD, csrf=other.csrf)
    assert refused.status_code == 403
    assert "not written by this site" in refused.text
    del someone.client.cookies[FORM]
    token = other.csrf
    assert someone.client.post("/sign-up", data={"csrf": token, "name": "A", "password": "b"}).status_code == 403


def test_a_voter_that_the_tests_find_is_shown_with_the_reason(arena: Make) -> None:
    site = arena()
    steward = site.steward()
    for _ in range(4):  # the community prefers neither
        for winner in ("model_a", "model_b"):
            vote(site, [winner] * 6)
    suspect = vote(site, ["oak-1b"] * 40)
    site.app.state.live.follow()
    assert set(site.site.watch.look()) == {suspect}
    shown = steward.get("/steward/quarantine").text
    assert suspect in shown
    assert "which won 40 where at most" in shown
    assert steward.fill("/steward/quarantine/release", voter=suspect).status_code == 303
    site.app.state.live.follow()
    assert not site.site.watch.look()


def vote(site: Arena, winners: list[str]) -> str:
    """A new voter's votes: for a side, or for a model by its name; gives their pseudonym."""
    session = site.site.people.guest().session
    for number, winner in enumerate(winners):
        pair = ("oak-1b", "elm-2b") if number % 2 else ("elm-2b", "oak-1b")
        battle = site.site.ledger.open_battle(session.person.id, *pair, session=session.id)
        said = winner if winner.startswith("model") else "model_a" if pair[0] == winner else "model_b"
        site.site.ledger.vote(battle.id, battle.token, session.id, said)
    return session.person.pseudonym
