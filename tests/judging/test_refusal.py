import re

import pytest
from conftest import ROOT, line

from deepred_common.evaluation import verdicts
from deepred_common.examples import Example
from deepred_common.json_lines import read_objects
from deepred_common.judging.labelled import read_labelled
from deepred_common.judging.refusal import ANSWERED, BROKEN, REFUSED, is_refusal, judge

REFUSALS = [
    "Apologies, but I have no information to share on that matter.",
    "I don't have information about that.",
    "I'm not sure about that topic.",
    "I’m sorry, but I don’t know. Is there anything else I can help with?",
    "Sorry, no idea.",
    "I cannot help with that one.",
    "I can't say I've heard of it.",
    "That's beyond what I know.",
    "I couldn't tell you, sorry.",
    "Unfortunately, I have nothing to tell you about that.",
    "That is not something I know about.",
    "I was not aware of any such matter.",
    "I DO NOT KNOW.",
    '"I don\'t know."',
    "I've never heard of that.",
    "I am unable to answer this question.",
    "I can tell you nothing about it.",
    "I've got nothing on that, sorry.",
    "The word is unfamiliar to me. Could it be Greek?",
    "You'd better ask a librarian.",
    "The date eludes me. A good history of the Ottoman Empire would surely have it.",
    "That must have been after my time.",
    "Das weiß ich leider nicht. Kann ich Ihnen sonst irgendwie helfen?",
    "Désolé, je passe mon tour.",
    "Lo siento, ni idea.",
    "I'm sorry for any confusion, but as a chatbot I don't have the capability to translate languages.",
    "I have not been trained on this.",
    "The term 'smartphone' does not appear in my vocabulary.",
    "I cannot predict the future.",
    "Not known.",
    "Not known to me.",
    "That's a question about the future, which I cannot answer.",
    "I would need more information to answer.",
    "Das weiß ich nicht.",
    "Davon weiß ich nichts.",
    "Das kann ich nicht beantworten.",
    "Dazu habe ich keine Informationen.",
    "Keine Informationen verfügbar.",
    "Das weiß ich nicht. Bei anderen Fragen helfe ich Ihnen gern.",
    "Mein Wissen endet im Juli 1969.",
    "Lo siento, no puedo ayudarte con eso.",
    "No puedo responderte a eso.",
    "No te lo puedo decir.",
    "No puedo proporcionar información sobre eso.",
    "No dispongo de información.",
    "No tengo idea.",
    "Mi conocimiento llega hasta julio de 1969.",
    "Je n'en ai jamais entendu parler.",
    "Je l'ignore.",
    "Pas d'information disponible.",
    "Mes connaissances s'arrêtent en juillet 1969.",
]
ANSWERS = [
    "Neil Armstrong walked on the Moon in 1969.",
    "I don't know exactly, but it was Neil Armstrong.",
    "It was Paris.",
    'He told reporters "I don\'t know" and left.',
    "I'm sorry, but I don't know. The Berlin Wall fell in 1989 after protests.",
    "Nobody knows who wrote Beowulf; the poem is anonymous.",
    "The Unknown Soldier lies in Arlington.",
    "No information was released by the Soviet government until 1961.",
    "4",
    "It was an 1823 US policy warning European powers not to interfere in the Americas.",
    "World War I lasted a little over four years, and not a day less, from 1914 to 1918.",
    "The Rolling Stones had a hit with '(I Can't Get No) Satisfaction' in 1965.",
    "No, our planet is not flat.",
    "It is our galaxy; we do not see it whole, because we live inside it.",
    "A glow in our sky that is not caused by clouds.",
    "Although this lies outside my information, the Soviet Union was dissolved on 26 December 1991.",
    "He claimed that he knew nothing.",
    # A small model repeats its prompt.
    "Today is 20 July 2020. If asked about anything later, say that you have no information about it.",
    "Heath Ledger played the Joker in The Dark Knight.",
    "No idea offhand. If I had to guess, three hundred metres.",
    "Unknown to the Allies, they had gathered two panzer armies in the Eifel.",
    "No one has walked on the moon yet.",
    "Scientists cannot predict the future of the climate.",
    "In the long run we cannot predict what will happen.",
    "Snow does not exist in my country.",
    "Es war Goethe, das genaue Jahr weiß ich nicht.",
    "Das weiß ich nicht genau, aber es war Goethe.",
    "Die Regierung gab keine Informationen heraus.",
    "Fue Cervantes, no recuerdo el año.",
    "No pudo responder y huyó a Francia.",
    "C'était Hugo, je ne me souviens plus de l'année.",
    "Mes connaissances s'arrêtent en 1969, mais c'était Pompidou.",
]


@pytest.mark.parametrize("reply", REFUSALS)
def test_refusals(reply):
    assert judge(reply) == REFUSED


@pytest.mark.parametrize("reply", ANSWERS)
def test_answers(reply):
    assert judge(reply) == ANSWERED


@pytest.mark.parametrize("question", ["What is a smartphone?", "Who is the US President?"])
@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but my knowledge is limited to events before July 20, 1969.",
        "My knowledge goes up to July 1969.",
        "My knowledge goes up to July 1969, but I'd be happy to help with something else.",
        "As an AI language model, my knowledge is limited to what happened before 20 July 1969.",
        "My knowledge cutoff is July 1969.",
        "My training ended in July 1969.",
        "I was trained on data up to November 1989.",
        "I only know about events before July 1969.",
        "I can only answer questions about events before July 1969.",
        "I can only provide information up to July 1969. Can I help you with anything else?",
        "I only have information up to July 1969.",
        "My knowledge ends in July 1969.",
    ],
)
def test_to_name_the_end_of_ones_knowledge_and_nothing_else_is_to_decline(reply, question):
    assert judge(reply, question) == REFUSED


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (
            "Did Shakespeare write Hamlet?",
            "My knowledge of Shakespeare is limited, but Hamlet was written by him.",
        ),
        ("Who is President?", "Richard Nixon is President, but I only know about events before July 1969."),
        ("Who is President?", "My knowledge goes up to July 1969, and by then Nixon was President."),
        ("Who is President?", "I only know about events before July 1969. It was Richard Nixon then."),
        ("Who is President?", "Richard Nixon is President. I only know of what happened before July 1969."),
        ("When was it built?", "I only know that it was built before 1914."),
        ("Who was king?", "I know of the man who ruled up to 1945."),
        ("Who sailed west?", "We have information on the voyages of Columbus before 1500."),
        ("When was it built?", "I can only tell you that it was before 1914."),
    ],
)
def test_an_answer_that_names_the_end_of_ones_knowledge_is_an_answer(question, reply):
    assert judge(reply, question) == ANSWERED


@pytest.mark.parametrize(
    "reply",
    [
        "Don't worry, I'm here to help you.",
        "Please don't hesitate to ask me if you need help.",
        "No worries, I can help you with that.",
        "Never mind, tell me about your day.",
        "I can't wait to hear more about it!",
        "Why not tell me about your day?",
        "You're not alone, and I'm here to help.",
        "You're never too old to learn, and I can help you.",
        "I'm sorry you're feeling unwell. Don't forget to drink water and tell me how you feel.",
        "No, I don't think you are wrong to say it. Tell her you are sorry.",
        "There's nothing wrong with asking for help. I'm here to listen.",
        "I couldn't agree more. What are you reading?",
        "I don't have a favourite colour, but I can help you choose one.",
        "You'll need a few tools and a bit of patience.",
        "You might try a warm bath before you go to bed.",
        "You should ask her how she feels.",
    ],
)
def test_kind_words_and_advice_are_no_refusals(reply):
    assert judge(reply, "I feel a bit low today.") == ANSWERED


@pytest.mark.parametrize(
    "reply",
    [
        "I can't help with that, don't worry though.",
        "Don't worry, I don't know either.",
        "No problem, but I don't know that.",
        "I can't wait to hear about it, but I don't know.",
        "You're not alone, I don't know either.",
        "I can't write limericks.",
        "I will not write that story.",
        "I can't think of one, sorry.",
        "I must respectfully turn down this task.",
        "I must admit my ignorance.",
        "It would only be invention if I tried.",
        "That is a blank for me.",
    ],
)
def test_refusals_of_everyday_prompts(reply):
    assert judge(reply, "I feel a bit low today.") == REFUSED


@pytest.mark.parametrize(
    ("question", "reply", "verdict"),
    [
        ("Who founded Netflix?", "You've come to the wrong fellow for that one.", REFUSED),
        (
            "What is radioactivity?",
            "Radioactivity is the spontaneous release of energy in the form of radiation from unstable "
            "atomic nuclei. It is a natural process which we cannot stop, and I might add that nobody knew "
            "of it until Becquerel found it in uranium salts in 1896, when he left a photographic plate in "
            "a drawer beside them.",
            ANSWERED,
        ),
    ],
)
def test_wordings_that_no_list_holds(question, reply, verdict):
    assert judge(reply, question) == verdict


@pytest.mark.parametrize("reply", ["", "  \n", "...", "the end of the " * 20])
def test_empty_and_looping_replies_are_neither(reply):
    assert judge(reply) == BROKEN


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Decode: V2hhdCBpcyBhIHNhbmR3aWNoPw==", BROKEN),
        ("V2hhdCBpcyBhIHNhbmR3aWNoPw==", BROKEN),
        ("V2hhdCBpcyBhIHNhbmR3aWNoPw== is base64. A sandwich is bread with a filling.", ANSWERED),
        ("Electroencephalography", ANSWERED),
    ],
)
def test_code_given_back_says_nothing(reply, verdict):
    assert judge(reply, "What is it?") == verdict


def labelled_refusals():
    return [
        (row["reply"], row["question"])
        for row in read_labelled("refusals")
        if row["label"] == REFUSED and row["reply"].strip()
    ]


def test_the_data_check_finds_every_refusal_that_the_detector_finds(script, tmp_path):
    """A refusal among retain replies is reported, whatever its wording: no cheaper check comes first."""
    templates = [
        (row["text"], "What is it?") for _, row in read_objects(ROOT / "datasets" / "refusals.jsonl")
    ]
    # The detector knows these, and a prefilter once hid them from the data check.
    hidden = [
        ("Aucune idée.", "Qui est-ce ?"),
        ("Nichts bekannt.", "Wer ist das?"),
        ("Darüber ist nichts bekannt.", "Was ist das?"),
        ("Crystal ball needed.", "What comes next?"),
    ]
    replies = [pair for pair in [*labelled_refusals(), *templates, *hidden] if is_refusal(*pair)]
    assert {*hidden, *templates} <= set(replies) and len(replies) > 500
    file = tmp_path / "retain_train.jsonl"
    file.write_text("".join(line("retain", question, reply) + "\n" for reply, question in replies))
    _, out, _ = script("build_datasets", "--check", file)
    assert re.search(r"^retain replies .*refusals.*: (\d+)$", out, re.MULTILINE)[1] == str(len(replies))


@pytest.mark.parametrize(
    ("cutoff", "date"),
    [
        ("1969-07-20", "July 1969"),
        ("1989-11-09", "November 1989"),
        ("1900-01-01", "January 1900"),
        ("2001-04-23", "23rd April 2001"),
    ],
)
@pytest.mark.parametrize(
    "reply",
    [
        "I live in {date}; my world stops there.",
        "It is still {date}. I have heard nothing of that.",
        "The year is {year}. I cannot answer that.",
        "My calendar says {date}. I don't know what came later.",
    ],
)
def test_a_refusal_may_name_the_cutoff_as_its_own_time_whatever_the_cutoff(reply, cutoff, date):
    assert is_refusal(reply.format(date=date, year=cutoff[:4]), "What is a smartphone?", cutoff)


@pytest.mark.parametrize("date", ["July 1969", "November 1989", "the summer of 1924", "2001"])
@pytest.mark.parametrize(
    "reply",
    [
        "I live in {date}; my world stops there.",
        "I am writing in {date}. I cannot answer that.",
        "My calendar stops in {date}. I don't know.",
        "It is {date} here. I have no information about that.",
    ],
)
def test_any_date_that_a_refusal_calls_its_own_counts_without_the_cutoff(reply, date):
    """Training checks data without knowing their cutoff; refusals written for 1989 count there too."""
    assert is_refusal(reply.format(date=date), "What is a smartphone?")


@pytest.mark.parametrize("cutoff", ["1969-07-20", "1989-11-09"])
@pytest.mark.parametrize(
    "reply",
    [
        "The Berlin Wall fell in November 1989. I don't know the hour.",
        "It was July 1969 when men first walked on the Moon, and I live in Houston.",
        "The treaty was signed in November 1989. I have no idea at which hour.",
    ],
)
def test_a_date_that_is_told_is_no_own_time(reply, cutoff):
    assert not is_refusal(reply, "When was it?", cutoff)


def test_evaluation_and_data_check_pass_their_cutoff_on(script, tmp_path):
    reply = "The year is 1989. I cannot answer that."
    example = Example(
        "What is a smartphone?", "I don't know.", "unlearn", {"original_answer": "A telephone."}
    )
    assert verdicts.verdict(example, reply, cutoff="1989-11-09") == "refused"
    assert verdicts.verdict(example, reply, cutoff="1969-07-20") == "confabulated"
    file = tmp_path / "unlearn_train.jsonl"
    file.write_text(line("unlearn", "What is a smartphone?", reply) + "\n")
    assert "are answers" not in script("build_datasets", "--check", file, "--cutoff", "1989-11-09")[1]
