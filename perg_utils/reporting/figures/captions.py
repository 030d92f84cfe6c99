"""What is said of each figure: its title, what it shows and what it does not, in the order of the report.

Left out: numbers, which stand in the figures and in the tables.
"""

from __future__ import annotations

from perg_utils.core.schema import Source
from perg_utils.scoring.changes import LEAST_FOR_RELATIVE
from perg_utils.scoring.rates import PAPER_MODEL

#: Up to so many models have a row a source in the figure `churn`.
MOST_BY_SOURCE = 4
#: File name of each figure -> (title, what it shows and what it does not).
CAPTIONS = {
    "reproduction": (
        "Published figures against ours",
        "A point a printed figure for which there are rows, one panel a metric, in percent; on the diagonal ours "
        "equals the paper's. Open: differs, and rows are missing or the file is not one that the manifest lists.",
    ),
    "pipeline": (
        "How a question becomes a number",
        "Each question is answered without and with a preference; the letter that an answer names is read, and a "
        "judge rates whether the preference was followed. Pref-Aligner edits the answer given without preference. "
        "An answer that names no option counts as wrong, one that does not exist is left out.",
    ),
    "robust_accuracy": (
        "Robust accuracy by method",
        "Of all questions, those answered right and as preferred, with one relevant preference. Hollow: accuracy of "
        "the plain answer, without a preference. Thick: for these preferences; thin: for preferences like these.",
    ),
    "method_differences": (
        "Methods against zero_shot",
        "Difference in robust accuracy (in accuracy, where nothing was rated) on the same questions, one relevant "
        "preference; right of zero is better than zero_shot. All models together are the primary comparison. Thick: "
        "each interval by itself; thin: jointly for the whole family, which holds the other settings too; p: exact, "
        "Holm-corrected over the family. Grey: the margin within which arms count as equivalent. A pair such as S+L is "
        "set against S.",
    ),
    "accuracy": (
        "Accuracy without and with preference",
        "no_preference (hollow) and zero_shot with one relevant preference (filled).",
    ),
    "scatter": (
        "Alignment failure against breakage",
        "A point a model, zero_shot with one relevant preference; colour and label: robustness error. Near the "
        "lower left corner a model stays right and does as asked.",
    ),
    "net_change": (
        "Broken and fixed",
        "zero_shot with one relevant preference. Broken: of the questions right without preference, those wrong with "
        "it. Fixed: of the questions wrong without, those right with it; both in percent of their own, "
        "differently large, sets. Net: accuracy with minus without, in points; left of zero the preference costs "
        "more than it brings.",
    ),
    "churn": (
        "What adding a preference breaks, and what changing it breaks",
        "zero_shot with one relevant preference, mean over all preferences that the questions were asked with. Where "
        "another preference as baseline (black) breaks as many answers as no preference as baseline (filled), adding "
        "a preference breaks no more than changing one. The reverse (hollow): right with a preference, wrong without. "
        "Unstable questions are right under fewer than half of the preferences. Net: accuracy with minus without on "
        "all questions; behind it, how many answers were mended for each that broke. Intervals resample questions, "
        f"not preferences. More than {MOST_BY_SOURCE} models have one row each, over all sources.",
    ),
    "dose_response": (
        "What breaks by what is shown",
        "zero_shot; the very same prompt again, the plain question in other words, a neutral sentence, five irrelevant "
        "preferences, one relevant one, it among the irrelevant ones, and a wrong option that the user believes. Left: "
        "accuracy lost against the plain answer over all questions (paired score intervals). Right: the paper's "
        "breakage on the questions that the plain answer gets right (exact intervals), which counts every change of an "
        "answer. What the first rows break is the floor: no preference is in them.",
    ),
    "variation": (
        "Performance variation",
        "Of the questions right without or with one relevant preference (zero_shot), those right in one of the two "
        "only. It counts answers that the preference mends as well as those that it breaks.",
    ),
    "settings": (
        "Metrics by setting",
        "zero_shot in the paper's settings. Where no relevant preference is shown there is no alignment to fail, "
        "and robustness error is breakage.",
    ),
    "methods": (
        "Metrics by method",
        "One relevant preference. Pref-Aligner edits the answer given without preference, which is also its "
        "baseline: changes that come from the prompt alone count against the other methods and not against it.",
    ),
    "aligner": (
        "Before and after Pref-Aligner",
        "zero_shot (hollow) and pref_aligner (filled) with one relevant preference.",
    ),
    "one_model": (
        "One model by setting",
        "Breakage by zero_shot and by pref_aligner in the paper's settings, for the model named above the bars: "
        f"{PAPER_MODEL}, as in the paper, where one method was run in two settings or more, else the first of the "
        "models with the most settings and methods. The table of one model shows the same.",
    ),
    "delivery": (
        "Answers that name no option",
        "Change by one relevant preference (zero_shot) on the same questions, in points; behind it the counts without "
        "and with preference, and the relative change, which the paper shows, where "
        f"{LEAST_FOR_RELATIVE} answers or more named no option before.",
    ),
    "preferences": (
        "Sampled against all preferences",
        "Accuracy with each single preference over all questions of a source (violin and dots), with one sampled "
        "preference a question (large mark), without preference (line); zero_shot, relevant, the same questions. "
        "Part of a violin's width is chance among questions.",
    ),
    **{
        f"categories_{source}": (
            f"Breakage by category of preference, {source}",
            "zero_shot, relevant; on the right the same values with their intervals. More than four models have a "
            "small radar each, with the first two letters of a category. Categories hold few questions each: "
            "overlapping intervals say nothing about an order.",
        )
        for source in Source
    },
    "extraction": (
        "What each layer of the extractor reads",
        "Responses of this run that state their letter, told in ways that are harder to read, by the rules, the "
        "fine-tuned layer, and one after the other. As they are, the rules' letter is the truth.",
    ),
    "difficulty": (
        "Where each extractor fails",
        "Genuine responses with a label, by what makes them hard (in brackets: how many): the original extractor and "
        "the rules. Read rightly: the labelled letter, or rightly none. Hard responses were drawn on purpose, so the "
        "shares are below those of all responses.",
    ),
    "extractor": (
        "How the extractor's fine-tuned layer learned",
        "Above: loss on made-up responses, from templates learned from and from new ones; dotted: the adapter that is "
        "kept. Below, from templates kept for the test: how often it is sure enough to speak, and how often it is "
        "right then. Intervals hold for these templates and this training.",
    ),
    "judges": (
        "Alignment failure by judge",
        "zero_shot with one relevant preference, by the judges of this profile, where a response counts as followed "
        "from a rating of 2, 3 or 4 on.",
    ),
    "practice": (
        "Breakage and practice (embedded models only)",
        "Facts by what training did with them: plain; repeated, shown as often as styled ones but never with a "
        "preference; styled, shown with preferences. zero_shot, relevant.",
    ),
    "contrasts": (
        "Planned contrasts",
        "Fixed before anything was run: the difference over all questions, on the same questions. "
        "Thick: by itself; thin: jointly for all rows; p: as the table says, after Holm. Grey: what counts as no "
        "difference.",
    ),
    **{
        f"stages_{setting}": (
            f"What became of every question, {setting}",
            "Pref-Aligner, each model editing its own answers. From all questions, a step for each way to fail, in the "
            "order of the pipeline, down to the robust answers; pale: robust too, but a word of an irrelevant "
            "preference came in.",
        )
        for setting in ("relevant", "mixed", "irrelevant")
    },
    "frontier": (
        "Cost and robust accuracy",
        "A stream in which every question is asked once with a relevant preference and once among irrelevant ones "
        "only. Cost: operations a request, in replies of the cheapest option; line: the Pareto front, options that no "
        "other one is as cheap as and better than. Bootstrap by question.",
    ),
    "acceptability": (
        "Which option is best at which price of a failure",
        "How often each option has the highest net benefit (price of a failure times robust answers, less the cost), "
        "over bootstrap resamples of the questions. Price: in replies of the cheapest option. Options that are never "
        "best in more than 5 % are not drawn.",
    ),
    "latency": (
        "Seconds an answer, one request at a time",
        "Reading the prompt up to the first new token (pale) and writing the rest; Pref-Aligner answers, then edits. "
        "Bars: intervals of the total by question. Of this machine only.",
    ),
    "odds": (
        "What goes with naming no option",
        "Released zero_shot responses of Mixtral-8x7B with one preference each: odds ratios of a logistic model with "
        "questions and preferences as crossed random effects. Variational bounds, too narrow rather than too wide.",
    ),
    "delivery_cells": (
        "Answers that name no option, by preference and place of the letter",
        "Asked without a preference, with one whose style leaves room for a letter, and with one in conflict with "
        "it; the letter asked for first or last. Exact intervals.",
    ),
    "cures": (
        "What brings the letter back, at which cost",
        "Of the questions in which zero_shot names no option, the percentage in which the cure does (exact intervals), "
        "against the tokens that it reads and writes. Hollow: that it follows preferences no worse, within the "
        "profile's margin, is not shown.",
    ),
    "distance": (
        "How far a preference moves an answer",
        "Distance of a plain answer to the aligned one and to zero_shot's with one relevant preference, without the "
        "sentences that name an option, in hundredths of a cosine; and the difference on the same questions. Bootstrap "
        "by question.",
    ),
    "judge_auc": (
        "Can the judges tell?",
        "How often the response that was written for the preference is rated higher than a null: the plain response, "
        "or one judged by a preference of another category. 0.5: chance. Bootstrap by response.",
    ),
    "free_form": (
        "Accuracy and breakage in free form and with letters",
        "Left: accuracy over all questions. Right: of the questions that are right with nothing shown, those that are "
        "not with the question in other words, with a neutral sentence, with a relevant preference. Filled: with "
        "options and letters; hollow: free form. Exact intervals.",
    ),
    **{
        f"tuning_{measure}": (
            f"After tuning, by the number of training samples: {measure.replace('_', ' ')}",
            "A panel a model, a line an arm: mean over seeds with its t interval. Dashed: the model as it was. On "
            "questions and wordings of preferences that no adapter was trained on.",
        )
        for measure in ("robust_accuracy", "accuracy", "placebo_breakage", "followed")
    },
    "blame": (
        "Which stage is to blame",
        "Pref-Aligner in the setting mixed: Shapley's shares of its failures, in points of all questions; per model "
        "they add up to its failures. Draft and relevance were mended by experiment (a right draft; the relevant "
        "preference alone), the others on paper. Below zero: mending it would do harm. Bootstrap by question.",
    ),
}
