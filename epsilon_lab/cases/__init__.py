"""What a person, a model or a rule decides: cases, and the book of those of a run.

case        one case and its verdicts: which decision is one (pure)
docket      the cases that a run's rules have flagged (pure)
answer      what a machine answered to one, as a verdict or as none (pure)
detection   what detectors find in a run's tables
asked       what tasks have asked and were told, and which of them a new verdict concerns (pure)
finalisation   what verdicts have changed in a run's outputs; differences, place by place (pure)
evidence    what a decider compares, and where it differs (pure)
card        a case as HTML and as text (pure)
sitting     one decider going through cases, one at a time (pure)
agreement   how far deciders agree (pure)
book        the handle a user decides by: `run.cases`
"""
