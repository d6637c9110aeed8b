"""Preference pairs in every published format, for the tests of what reads and encodes them."""

from __future__ import annotations

from typing import Any


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def told(prompt: Any, chosen: str, rejected: str, **numbers: float) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": [assistant(chosen)], "rejected": [assistant(rejected)], **numbers}


SKY = [user("What colour is the sky?")]
TALK = [user("Hi"), assistant("Hello"), *SKY]
SYSTEM = [{"role": "system", "content": "Be brief."}, *SKY]

#: What the data say -> prompt, chosen, rejected, numbers.
FORMATS: dict[str, tuple[dict[str, Any], tuple[Any, Any, Any, dict[str, float]]]] = {
    "standard": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        ("The sky is", " blue.", " green.", {}),
    ),
    "standard, implicit prompt": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        ("The sky is", " blue.", " black.", {}),
    ),
    "conversational": (told(SKY, "Blue.", "Green."), (SKY, "Blue.", "Green.", {})),
    "conversational, implicit prompt": (
        {"chosen": [*TALK, assistant("Blue.")], "rejected": [*TALK, assistant("Green.")]},
        (TALK, "Blue.", "Green.", {}),
    ),
    "prompt repeated in both conversations": (
        {"prompt": SKY, "chosen": [*SKY, assistant("Blue.")], "rejected": [*SKY, assistant("Green.")]},
        (SKY, "Blue.", "Green.", {}),
    ),
    "prompt's text beside conversations with a system turn": (
        {
            "prompt": SKY[0]["content"],
            "chosen": [*SYSTEM, assistant("Blue.")],
            "rejected": [*SYSTEM, assistant("Green.")],
        },
        (SYSTEM, "Blue.", "Green.", {}),
    ),
    "messages answered by texts": (
        {"prompt": TALK, "chosen": "Blue.", "rejected": "Green."},
        (TALK, "Blue.", "Green.", {}),
    ),
    "all responses, beside a pair": (
        {
            "prompt": "Sky?",
            "all_generated_responses": ["Red.", "Blue.", "Green."],
            "all_rm_scores": [0.5, 2, -1],
            **{side: [user("Sky?"), assistant("?")] for side in ("chosen", "rejected")},
        },
        ([user("Sky?")], "Blue.", "Green.", {"reward_chosen": 2, "reward_rejected": -1}),
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Blue.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Human: no",
        },
        ([user("Hi"), assistant("Hello"), user("Sky?")], "Blue.", "Human: no", {}),
    ),
    "HelpSteer2-Preference": (
        {
            "prompt": "Sky?", "response_1": "Green.", "response_2": "Blue.", "preference_strength": 3,
            "preference_statement": "Response 2 is right.", "split": "train",
        },
        ([user("Sky?")], "Blue.", "Green.", {"margin": 3}),
    ),
    "HelpSteer3": (
        {
            "domain": "general", "language": "english", "context": TALK, "response1": "Blue.",
            "response2": "Green.", "overall_preference": -2,
            "individual_preference": [{"score": -2, "reasoning": "true", "feedback_1": "", "feedback_2": ""}],
        },
        (TALK, "Blue.", "Green.", {"margin": 2}),
    ),
    "HelpSteer3, a tie": (
        {"context": SKY, "response1": "Blue.", "response2": "Azure.", "overall_preference": 0},
        (SKY, "Blue.", "Azure.", {"margin": 0, "preference": 0.5}),
    ),
    "numbers": (
        told("Sky?", "Blue.", "Green.", chosen_probability=0.75, win_chosen=1, win_rejected=0, margin=-3)
        | {"score_chosen": 7, "rejected_score": 1.5, "uncertainty_chosen": None},
        (
            [user("Sky?")],
            "Blue.",
            "Green.",
            {
                "preference": 0.75, "win_chosen": 1, "win_rejected": 0, "margin": -3,
                "reward_chosen": 7, "reward_rejected": 1.5,
            },
        ),
    ),
}  # fmt: skip
