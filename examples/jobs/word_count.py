# Counts the words of args["text"]. Run it: npx lambda jobs run examples/jobs/word_count.py --args '{"text": "a b a"}' --wait
from collections import Counter


def main(args):
    words = Counter(args.get("text", "").lower().split())
    print(f"{sum(words.values())} words")
    return {"words": sum(words.values()), "most_common": words.most_common(3)}
