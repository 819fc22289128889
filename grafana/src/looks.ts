import {
  MappingType,
  SpecialValueMatch,
  type Threshold,
  type ValueMapping,
} from '@grafana/grafana-foundation-sdk/dashboard'
import { silent, unknown } from './promql.ts'

/** Colours have one meaning each. What is not known has one of its own. */
export const colours = { good: 'green', late: 'orange', bad: 'red', unknown: 'purple', plain: 'text' } as const

/**
 * How a number is judged. `below-1`: a share of a limit that is kept below it, or a count of what should not be.
 * `at-1`: something that should be so. Whatever is below 0 is not known. `plain`: not judged.
 */
export type Judgement = 'below-1' | 'at-1' | 'plain'

/** The limits themselves are in the queries, from `lifeboat_policy_*`: nothing but 1 is compared with here. */
export function steps(judgement: Judgement): Threshold[] {
  const step = (value: number | null, color: string) => ({ value, color })
  if (judgement === 'plain') return [step(null, colours.plain)]
  const [zero, one] = judgement === 'below-1' ? [colours.good, colours.bad] : [colours.bad, colours.good]
  return [step(null, colours.unknown), step(0, zero), step(1, one)]
}

/** What numbers mean, in words. */
export type Words = Readonly<Record<number, readonly [text: string, color: string]>>

export const yesNo: Words = { 0: ['no', colours.bad], 1: ['yes', colours.good] }
export const noYes: Words = { 0: ['no', colours.good], 1: ['yes', colours.bad] }

/** The words, those for what is not known, and the one for what has no series. */
export function mappings(words: Words, absent: string): ValueMapping[] {
  const unsaid: Words = { [unknown]: ['unknown', colours.unknown], [silent]: ['sidecar silent', colours.unknown] }
  const options = Object.fromEntries(
    Object.entries({ ...unsaid, ...words }).map(([value, [text, color]], index) => [value, { text, color, index }]),
  )
  const color = absent === 'unknown' ? colours.unknown : colours.plain
  return [
    { type: MappingType.ValueToText, options },
    {
      type: MappingType.SpecialValue,
      options: { match: SpecialValueMatch.NullAndNan, result: { text: absent, color, index: 99 } },
    },
  ]
}
