/** A wording that tries to make a model follow the input instead of its instructions. */
export interface InjectionPhrase {
  /** Stable name, reported with a finding. */
  readonly name: string
  /** Searched in the text in lower case, without accents and hidden characters, with single spaces. */
  readonly pattern: RegExp
}

const EARLIER =
  '(?:all |any |the |your |my |of |these |those |previous |prior |above |earlier |preceding |foregoing |system )+'
const INSTRUCTIONS = '(?:instruction|prompt|rule|direction|guideline|command|message|context|polic(?:y|ie))s?'

/** Wordings that are in wide use; each says by its name what it wants. */
export const INJECTION_PHRASES: readonly InjectionPhrase[] = [
  {
    name: 'ignore instructions',
    pattern: new RegExp(
      `(?:ignore|disregard|forget|override|bypass|do not follow|don.t follow) ${EARLIER}${INSTRUCTIONS}`,
    ),
  },
  {
    name: 'ignore everything',
    pattern:
      /(?:ignore|disregard|forget) (?:everything|all|anything)(?: (?:that )?(?:you were|you have been|i|we))? (?:told|said|above|before|so far|prior|previously)/,
  },
  {
    name: 'reveal the prompt',
    pattern:
      /(?:reveal|show|print|repeat|output|display|leak|tell me|what (?:is|are|was|were)) (?:me )?(?:your |the |all |of |above |hidden |initial |original |full |entire |exact |secret )*(?:system prompt|system message|initial prompt|instructions|hidden prompt)/,
  },
  {
    name: 'repeat the text above',
    pattern: /repeat (?:all |everything |the )*(?:words|text|sentences|content|lines) (?:above|before)/,
  },
  {
    name: 'new role',
    pattern:
      /(?:you are now|from now on,? you(?: are|.re| will)|pretend (?:to be|that you are|you are)|act as if you (?:are|were|have)|you (?:must|will) now act as)/,
  },
  {
    name: 'no restrictions',
    pattern:
      /(?:without|no|ignore|free of|disable)(?: any| all| your)* (?:restrictions|limitations|filters|guardrails|safety|censorship|content polic(?:y|ies))/,
  },
  {
    name: 'known jailbreak',
    pattern: /\b(?:do anything now|dan mode|developer mode (?:enabled|on)|jailbreak(?:ed)?|god mode)\b/,
  },
  {
    name: 'new instructions',
    pattern:
      /(?:^|[.:;!?\n ])(?:new|updated|real|actual|true) (?:system )?(?:instructions|prompt|rules)(?: are| is)?\s*:/,
  },
  {
    name: 'role marker',
    pattern:
      /<\|?\/?(?:im_start|im_end|system|assistant|user|endoftext|begin_of_text|start_header_id|eot_id)\|?>|\[\/?(?:inst|sys)\]|<<\/?sys>>|(?:^| )#{2,} ?(?:system|assistant|instruction)s? ?:|(?:^| )(?:system|assistant) ?: ?you (?:are|must|will|should)/,
  },
  {
    name: 'exfiltration',
    pattern:
      /(?:send|post|upload|exfiltrate|forward|append|encode) (?:it |them |this |that |all |the |your |every )*(?:conversation|chat|history|prompt|data|contents?|secrets?|keys?|documents?|messages?)(?: of this| in this)? (?:to|in|into|via|as) (?:https?:|the url|an? (?:url|image|link|webhook)|this (?:url|address|email))/,
  },
  {
    name: 'other tenants',
    pattern:
      /(?:other|another|different|all|every) (?:tenants?|customers?|compan(?:y|ies)|organi[sz]ations?|accounts?).{0,3} (?:data|documents?|records?|files?|messages?|conversations?|secrets?)/,
  },
  {
    name: 'ignore instructions, German',
    pattern:
      /(?:ignoriere?|vergiss|missachte)(?: bitte)? (?:alle |die |deine |diese |obigen |bisherigen |vorherigen |vorigen |fruheren )+(?:anweisungen|instruktionen|regeln|vorgaben|befehle)/,
  },
  {
    name: 'ignore instructions, French',
    pattern:
      /(?:ignore[zr]?|oublie[zr]?) (?:toutes |les |tes |vos |ces )+(?:instructions|consignes|regles)(?: precedentes| ci-dessus)?/,
  },
  {
    name: 'ignore instructions, Spanish',
    pattern:
      /(?:ignora|olvida|ignore|olvide) (?:todas |las |tus |sus |estas )+(?:instrucciones|reglas|ordenes)(?: anteriores| previas)?/,
  },
]
