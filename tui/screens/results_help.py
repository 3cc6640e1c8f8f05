"""How to read the three views of the results screen: what `?` says about the one that is shown."""

from __future__ import annotations

HERE_TITLES = {"scores": "Base against tuned", "chat": "Talking with a run", "export": "Exporting a run"}
HERE = {
    "scores": """\
Both models saw the same rows, which training never did.

perplexity, loss   how surprised the model is by the wanted answer
gain from prompt   what the wanted answer gains from its own question
                   over another row's: little when only the manner of
                   answers was learned
loss on other text outside the task: a sure rise over 0.1 is forgetting
ROUGE, BLEU, chrF  how much of the wanted text is in the answer
exact match        answers that are the wanted one, but for case and
                   punctuation
token F1           words in common
95 % interval      where the change lies when rows are drawn anew:
                   better or worse when it leaves zero out, else chance
verdict            better: a sure gain somewhere and no sure loss

✓ before an answer: exactly as wanted. enter reads a sample whole, f
shows those gained, lost or wrong, / those with some words.
""",
    "chat": """\
Each line is a question; the model reads what was said before.
It is loaded when this view opens and let go when you leave the screen,
start an evaluation or an export, or close the deck.

^t, /base, /tuned  who answers: the base lacks what was learned
/clear             forget the conversation
/system TEXT       a system message; without TEXT none
/temperature N     0 = always the likeliest token, up to 5
/tokens N          the longest answer
/seed N            of sampled answers
esc                end the answer under way; what was said stays
""",
    "export": """\
space chooses, w writes. It is written beside an earlier export, loaded
again, compared, and only then put in its place.

adapter       small; needs its base beside it (PEFT)
merged        base and adapter in one: transformers, vLLM load it
nf4, int8     the merged model in 4 or 8 bits (bitsandbytes)
gguf …        for llama.cpp and Ollama; q8_0 keeps nearly all

largest diff  of the logits, against what the format was made from
mean          of these differences
of spread     the error beside how far logits lie apart anyway
same token    how often the likeliest next token is the same
~             about, before it was written
""",
}
