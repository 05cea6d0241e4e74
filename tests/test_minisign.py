"""MiniSign: lexicon, skeleton, pictures, sentences and motion."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from slakit.minisign import hands, lexicon, looks, motion, render, sentences, sheets, skeleton
from slakit.minisign.phonology import HANDSHAPES, LOCATIONS, MOUTHS, PARAMETERS, HandPose, Pose, describe, sample_pose
from slakit.records import ConfigError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def plain_look(seed: int = 0, **changes) -> tuple[looks.Signer, looks.Scene]:
    """A signer in a scene without grain, shift or cast."""
    signer = looks.sample_signer(rng(seed), "pictures")
    scene = looks.sample_scene(rng(seed), "pictures")
    scene = replace(scene, grain=0.0, blur=0.0, shift_x=0.0, shift_y=0.0, side_light=0.0, background="plain", zoom=1.0)
    return replace(signer, **{"hair_style": "short", "garment": "round", "glasses": False, **changes}), scene


# ---------------------------------------------------------------- lexicon and captions


def test_lexicon_has_distinct_signs_and_minimal_pairs_of_every_kind():
    assert 24 <= len(lexicon.LEXICON) <= 32
    choices = [tuple(sign.parameters().values()) for sign in lexicon.LEXICON.values()]
    assert len(set(choices)) == len(choices)
    pairs = lexicon.minimal_pairs()
    for first, second, parameter in pairs:
        a, b = lexicon.LEXICON[first], lexicon.LEXICON[second]
        names = ("handshape", "location", "movement", "orientation", "palm", "hands", "mouth")
        assert [name for name in names if getattr(a, name) != getattr(b, name)] == [parameter]
        assert a.kind == b.kind, "the grammar must not tell the two apart"
    counts = Counter(parameter for *_, parameter in pairs)
    least = {"movement": 2, "handshape": 2, "mouth": 2, "location": 1, "orientation": 1, "palm": 1, "hands": 1}
    assert all(counts[parameter] >= number for parameter, number in least.items())
    used = Counter(sign.handshape for sign in lexicon.LEXICON.values())
    assert set(used) >= set(HANDSHAPES) - {"fist"}, "the fist begins LIGHT and ends DARK"


@pytest.mark.parametrize(("first", "second", "parameter"), lexicon.minimal_pairs())
def test_minimal_pair_is_drawn_differently_and_only_where_it_differs(first, second, parameter):
    signer, scene = plain_look(right_handed=True)
    strips = []
    for gloss in (first, second):
        bodies = motion.sign_motion(lexicon.LEXICON[gloss], signer, 7)
        strips.append([render.render(body, signer, scene) for body in bodies])
    differences = np.stack(
        [np.abs(a.image.astype(int) - b.image.astype(int)).max(axis=2) for a, b in zip(*strips, strict=True)]
    )
    assert (differences > 40).any(axis=0).sum() >= 12, "at least a dozen pixels differ clearly"
    if parameter == "mouth":
        x, y = strips[0][3].mouth
        rows, columns = np.nonzero(differences[3] > 8)
        assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).max() < strips[0][3].face[1]
    if parameter == "hands":
        assert strips[0][3].left_hand is None and strips[1][3].left_hand is not None


def test_captions_name_all_or_chosen_parameters():
    pose = Pose(HandPose("flat", "chin", "up", "viewer"), None, "open")
    assert describe(pose) == (
        "a signer, right hand: a flat hand at the chin, fingers up, palm to the viewer; left hand at rest; "
        "mouth wide open"
    )
    assert describe(pose, ["mouth"]) == "a signer, mouth wide open"
    assert describe(pose, ["right.location"]) == "a signer, right hand: at the chin"
    assert describe(pose.mirrored(), ["palm"]) == "a signer, right hand at rest; left hand: palm to the viewer"
    assert pose.names().keys() == {p for p in PARAMETERS if not p.startswith("left")}
    with pytest.raises(ConfigError, match=r"'elbow'.*right\.handshape"):
        describe(pose, ["elbow"])
    with pytest.raises(ConfigError, match=r"'blob'.*fist"):
        HandPose("blob", "chin", "up", "viewer")


def test_sampled_poses_cover_all_names():
    generator = rng()
    seen = Counter(item for _ in range(600) for item in sample_pose(generator).names().items())
    for side in ("right", "left"):
        assert {n for (p, n) in seen if p == f"{side}.handshape"} == set(HANDSHAPES)
        assert {n for (p, n) in seen if p == f"{side}.location"} == set(LOCATIONS)


# ---------------------------------------------------------------- bones


def test_arm_reaches_targets_and_keeps_its_bone_lengths():
    generator, upper, fore = rng(), 0.235, 0.225
    shoulder = np.array([-0.18, 0.06, 0.0])
    reached = 0
    for _ in range(300):
        wanted = shoulder + generator.uniform(-0.5, 0.5, 3)
        elbow, wrist = skeleton.solve_arm(shoulder, wanted, upper, fore)
        assert np.linalg.norm(elbow - shoulder) == pytest.approx(upper, abs=1e-9)
        assert np.linalg.norm(wrist - elbow) == pytest.approx(fore, abs=1e-9)
        distance = np.linalg.norm(wanted - shoulder)
        if abs(upper - fore) + 1e-3 < distance < upper + fore - 1e-3:
            reached += 1
            np.testing.assert_allclose(wrist, wanted, atol=1e-9)
        else:  # drawn in along the line from the shoulder
            cosine = (wrist - shoulder) @ (wanted - shoulder) / np.linalg.norm(wrist - shoulder) / distance
            assert cosine == pytest.approx(1.0, abs=1e-9)
    assert reached > 100
    elbow, _ = skeleton.solve_arm(shoulder, shoulder + np.array([0.15, 0.0, 0.12]), upper, fore)
    assert elbow[1] > shoulder[1] + 0.05, "the elbow hangs below the shoulder"


def test_hand_axes_follow_orientation_and_palm():
    for orientation, direction in {"up": (0, -1), "in": (1, 0), "down": (0, 1), "out": (-1, 0)}.items():
        for palm, facing in {"viewer": 1, "signer": -1}.items():
            axes = hands.hand_axes(hands.hand_vector("flat", np.zeros(3), orientation, palm))
            np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
            assert axes[1, :2] @ direction > 0.9
            assert axes[2, 2] * facing > 0.9
    thumb_up = hands.hand_axes(hands.hand_vector("thumb", np.zeros(3), "in", "signer"))
    assert thumb_up[0, 1] < -0.9, "fingers inward, palm to the signer: the thumb points up"


def test_fingers_keep_their_lengths_in_every_handshape():
    for name in HANDSHAPES:
        hand = hands.hand_vector(name, np.zeros(3), "in", "signer", 20.0)
        fingers, thumb, facing = hands.hand_points(hand, hands.hand_axes(hand))
        np.testing.assert_allclose(np.linalg.norm(np.diff(fingers, axis=1), axis=2), hands.BONES, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(np.diff(thumb, axis=0), axis=1), hands.THUMB_BONES, atol=1e-12)
        assert np.abs(facing).max() <= 1.0 + 1e-12


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("location", ["temple", "chest", "neutral", "side"])
def test_landmarks_lie_on_the_drawn_hand(side, location):
    signer, scene = plain_look(1)
    frames = [
        render.render(Pose(**{side: HandPose(shape, location, "up", "viewer")}), signer, scene)
        for shape in ("five", "fist")
    ]
    x, y = getattr(frames[0], f"{side}_hand")
    assert getattr(frames[0], "left_hand" if side == "right" else "right_hand") is None
    assert (x < 48) == (side == "right"), "the signer's right hand is on the left of the picture"
    changed = np.abs(frames[0].image.astype(int) - frames[1].image.astype(int)).max(axis=2) > 12
    rows, columns = np.nonzero(changed)
    distance = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
    length = signer.hand * render.FIGURE * 96  # of the palm, in pixels
    assert distance.max() < 1.9 * length
    assert distance.min() < 0.5 * length


def test_mouth_and_face_landmarks():
    signer, scene = plain_look(2)
    pose = Pose(head=(6.0, 0.01))
    closed, opened = (render.render(replace(pose, mouth=m), signer, scene) for m in ("closed", "open"))
    changed = np.abs(closed.image.astype(int) - opened.image.astype(int)).max(axis=2) > 12
    rows, columns = np.nonzero(changed)
    x, y = closed.mouth
    assert abs(columns.mean() + 0.5 - x) < 1.0 and abs(rows.mean() + 0.5 - y) < 1.5
    (cx, cy), radius = closed.face
    assert 0.3 * radius < np.hypot(x - cx, y - cy) < 0.7 * radius


def test_left_handers_are_mirrored():
    signer, scene = plain_look(3, right_handed=True)
    left_hander = replace(signer, right_handed=False)
    glosses = ("MOTHER", "PERSON", "GOOD")
    motions = []
    for person in (signer, left_hander):
        signs, transitions = motion.plan(glosses, person, rng(5))
        motions.append(motion.sentence_motion(glosses, person, signs, transitions, rng(6)))
    assert motions[0].spans == motions[1].spans
    middle = motions[0].spans[1].start + 2
    right, left = (
        render.render(m.bodies[middle], s, scene) for m, s in zip(motions, (signer, left_hander), strict=True)
    )
    assert right.left_hand is None and left.right_hand is None
    np.testing.assert_allclose(left.left_hand, (96 - right.right_hand[0], right.right_hand[1]), atol=1e-9)
    np.testing.assert_allclose(left.mouth, (96 - right.mouth[0], right.mouth[1]), atol=1e-9)
    flipped = np.abs(right.image[:, ::-1].astype(int) - left.image).mean()
    straight = np.abs(right.image.astype(int) - left.image).mean()
    assert flipped < 0.15 * straight


@pytest.mark.parametrize("domain", looks.DOMAINS)
def test_every_look_is_drawn_and_repeatable(domain):
    generator = rng(11)
    for _ in range(25):
        signer, scene = looks.sample_signer(generator, domain), looks.sample_scene(generator, domain)
        pose = sample_pose(generator)
        frame = render.render(pose, signer, scene, size=64)
        assert frame.image.shape == (64, 64, 3) and frame.image.dtype == np.uint8
        assert frame.image.std() > 12
        again = render.render(pose, signer, replace(scene), size=64)
        np.testing.assert_array_equal(frame.image, again.image)


def test_film_strength_moves_ranges_from_pictures_to_film_and_beyond():
    for strength in (0.0, 0.5, 1.0, 1.6):
        scenes = [looks.sample_scene(rng(i), "film", strength) for i in range(200)]
        for name, (pictures, film) in looks.SCENE_RANGES.items():
            low, high = ((1 - strength) * p + strength * f for p, f in zip(pictures, film, strict=True))
            values = [getattr(scene, name) for scene in scenes]
            assert low - 1e-12 <= min(values) and max(values) <= high + 1e-12
            assert max(values) - min(values) > 0.8 * (high - low)
    assert {looks.sample_scene(rng(i), "film", 0.0).background for i in range(50)} == set(looks.BACKGROUNDS["pictures"])
    with pytest.raises(ConfigError, match=r"'cartoon'.*pictures, film"):
        looks.sample_scene(rng(), "cartoon")
    with pytest.raises(ConfigError, match=r"3\.0"):
        looks.sample_signer(rng(), "film", 3.0)


# ---------------------------------------------------------------- sentences and motion


def test_sentences_follow_the_grammar():
    generator = rng(1)
    drawn = [sentences.sample_sentence(generator) for _ in range(1500)]
    lengths = Counter(len(sentence) for sentence in drawn)
    assert min(lengths) == 3 and max(lengths) == 7
    for sentence in drawn:
        for first, second in pairwise(sentence):
            kinds = lexicon.LEXICON[first].kind, lexicon.LEXICON[second].kind
            assert first == second or kinds[1] in sentences.SUCCESSORS[kinds[0]]
    bigrams = Counter(pair for s in drawn for pair in pairwise(s))
    assert 0.02 < sum(n for (a, b), n in bigrams.items() if a == b) / bigrams.total() < 0.09
    after_mother = {b: n for (a, b), n in bigrams.items() if a == "MOTHER" and lexicon.LEXICON[b].kind == "verb"}
    liked = [n for b, n in after_mother.items() if sentences.favours("MOTHER", b)]
    other = [n for b, n in after_mother.items() if not sentences.favours("MOTHER", b)]
    assert np.mean(liked) > 1.8 * np.mean(other)
    splits = sentences.sample_sentences(rng(2), {"train": 200, "dev": 50})
    assert len({*splits["train"], *splits["dev"]}) == 250
    assert splits["dev"] == sentences.sample_sentences(rng(2), {"dev": 50})["dev"]
    shares = Counter(map(sentences.split_of, drawn))
    assert {split: round(n / len(drawn), 1) for split, n in shares.items()} == {"train": 0.6, "dev": 0.2, "test": 0.2}


def test_minimum_jerk_starts_and_ends_at_rest():
    share = motion.minimum_jerk(2001)
    t = np.linspace(0.0, 1.0, 2001)
    velocity, acceleration = np.gradient(share, t), np.gradient(np.gradient(share, t), t)
    assert share[0] == 0.0 and share[-1] == pytest.approx(1.0, abs=1e-12)
    assert np.all(np.diff(share) > 0)
    assert velocity.max() == pytest.approx(1.875, abs=1e-3)  # 15/8, the profile's known peak
    assert abs(velocity[[0, -1]]).max() < 1e-3 and abs(acceleration[[0, -1]]).max() < 0.1


def test_motion_is_continuous_and_its_spans_hold_the_signs():
    generator = rng(3)
    for number in range(20):
        signer = looks.sample_signer(generator, "film")
        glosses = sentences.sample_sentence(generator)
        signs, transitions = motion.plan(glosses, signer, generator)
        made = motion.sentence_motion(glosses, signer, signs, transitions, generator)
        assert tuple(span.gloss for span in made.spans) == glosses
        ends = [0]
        for span, frames in zip(made.spans, signs, strict=True):
            assert span.start > ends[-1] and span.end - span.start == frames
            ends.append(span.end)
        assert ends[-1] < len(made.bodies)
        for part in (skeleton.RIGHT, skeleton.LEFT):
            steps = np.linalg.norm(np.diff(made.bodies[:, part][:, hands.PLACE], axis=0), axis=1)
            assert steps.max() < 0.40, f"sentence {number}: a hand jumps"
        lead = skeleton.RIGHT if signer.right_handed else skeleton.LEFT
        for span in made.spans:
            sign = lexicon.LEXICON[span.gloss]
            body = made.bodies[span.start + (span.end - span.start) // 2]
            np.testing.assert_allclose(body[skeleton.MOUTH], skeleton.MOUTH_FORMS[sign.mouth])
            off = body[lead][hands.PLACE] - skeleton.place_of(sign.location, signer)
            assert np.abs(off).max() < 0.2
            assert body[skeleton.PRESENT].sum() == (2 if sign.hands == "two" else 1)


def test_transition_turns_the_hand_the_shorter_way():
    start, end = np.zeros((2, skeleton.BODY_SIZE))
    for body, turn in ((start, 180.0), (end, -90.0)):
        body[hands.TURN] = turn
        body[hands.FINGERS.start] = turn
    between = motion.transition(start, end, 9)[:, hands.TURN]
    assert np.all(np.diff(between) > 0) and 180.0 < between[0] and between[-1] < 270.0


# ---------------------------------------------------------------- contact sheets


def test_sheets_place_every_picture_below_its_label():
    a, b = np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 200, np.uint8)
    sheet = np.asarray(sheets.grid([[a, b], [b]], [["a", "b"], ["c"]], scale=2))
    rows, columns = 2 * (16 + sheets.LABEL_HEIGHT + 3) + 3, 2 * (16 + 3) + 3
    assert sheet.shape == (rows, columns, 3)
    top = 3 + sheets.LABEL_HEIGHT
    assert (sheet[top : top + 16, 3:19] == 10).all() and (sheet[top : top + 16, 22:38] == 200).all()
    assert (sheet[3:top, 3:19] < 128).any(), "the label is written"


def test_sheets_show_all_handshapes_mouths_and_pairs():
    assert sheets.handshape_sheet(close=True, scale=1).size == (5 * 43 + 3, 4 * (40 + sheets.LABEL_HEIGHT + 3) + 3)
    assert sheets.mouth_sheet("film", signers=2, scale=1).size[0] == len(MOUTHS) * 99 + 3
    strip = sheets.strips(["LIGHT", "DARK"], frames=3, scale=1)
    assert strip.size == (3 * 99 + 3, 2 * (96 + sheets.LABEL_HEIGHT + 3) + 3)
    image = np.arange(100 * 100 * 3).reshape(100, 100, 3)
    np.testing.assert_array_equal(sheets.crop(image, (2.0, 98.0), 20), image[80:, :20])
