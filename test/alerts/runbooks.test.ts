import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import t from 'tap'
import { alerts } from '../../src/alerts/groups.ts'
import { severities } from '../../src/alerts/names.ts'
import { keysBelow } from '../../src/config/keys.ts'
import { metricDefinitions } from '../../src/metrics/names.ts'
import { cli } from '../support/cli.ts'
import { codeOf, runbooks, wordsOf } from './runbook-pages.ts'
import { loggedWords } from './words.ts'

const pages = await runbooks()
const docs = new URL('../../docs/', import.meta.url)
const sections = ['Meaning', 'Impact', 'Diagnosis', 'Mitigation']
const begins = { critical: 'Critical: ', warning: 'Warning: ', none: 'No severity: ' }

await t.test('each alert has its page, and the list names it by its severity', async (t) => {
  t.same(new Set(pages.map(({ name }) => name)), new Set(['README', ...Object.keys(severities)]))
  const [, , , ...lists] = (pages.find(({ name }) => name === 'README')?.text ?? '').split(/^## /m)
  t.equal(lists.length, 3)
  for (const [index, severity] of (['critical', 'warning', 'none'] as const).entries()) {
    const listed = [...(lists[index] ?? '').matchAll(/^- \[(\w+)\]\(\1\.md\): ./gm)].map(([, name]) => name)
    t.same(
      listed,
      Object.entries(severities).flatMap(([name, one]) => (one === severity ? [name] : [])),
    )
  }
})

await t.test(
  'each page has its four sections, a command to begin with, and the policies that its alert goes by',
  (t) => {
    for (const { alert, expr } of alerts) {
      const text = pages.find(({ name }) => name === alert)?.text ?? ''
      const parts = text.split(/^## (.*)\n/m)
      t.equal(parts[0]?.startsWith(`# ${alert}\n\n${begins[severities[alert]]}`), true, alert)
      t.same(
        parts.filter((_, index) => index % 2 === 1),
        sections,
        alert,
      )
      const [, , meaning = '', , impact = '', , diagnosis = '', , mitigation = ''] = parts
      for (const part of [meaning, impact, mitigation]) t.ok(part.trim().length > 20, `${alert}: ${part}`)
      t.match(diagnosis, /^```sh\n[^\n]+\n/m, alert)
      for (const [policy] of expr.matchAll(/lifeboat_policy_\w+/g))
        t.ok(meaning.includes(policy), `${alert}: ${policy}`)
      const lines = text.split('\n').length
      t.ok(lines >= 25 && lines <= 60, `${alert}: ${lines} lines`)
    }
    t.end()
  },
)

await t.test('every command line is understood', async (t) => {
  const told = new Set(
    [...pages.map(({ text }) => text), ...alerts.map(({ first }) => first)]
      .flatMap(codeOf)
      .filter((code) => code.includes('lifeboat')),
  )
  const asked = [...told].flatMap(wordsOf).filter(([program, ...rest]) => program === 'lifeboat' && rest.length > 0)
  t.ok(asked.length > 50)
  for (const [, ...words] of asked) {
    const line = words.join(' ')
    // Without a configuration each ends as soon as it has understood what it was asked.
    t.match(await cli(words.map(example), { env: {} }), { code: 2, err: 'no configuration was given' }, line)
  }
  for (const wrong of ['list --nowhere', 'wal mend', 'mend', 'hold 1']) {
    const { code, err } = await cli(wrong.split(' '), { env: {} })
    t.equal(code, 2, wrong)
    t.notMatch(err, 'no configuration was given', wrong)
  }
})

/** What somebody would put for a word in capitals. */
function example(word: string): string {
  const values: Readonly<Record<string, string>> = {
    'BACKUP-ID': '20260301T020000Z-dump-0a1b2c',
    SEGMENT: '000000010000000000000015',
  }
  return values[word] ?? word
}

await t.test('every path of the API is served, and the archiving program has its arguments', async (t) => {
  const source = await loggedWords()
  let [paths, archived] = [0, 0]
  for (const { name, text } of pages) {
    for (const [path] of text.matchAll(/\/api\/(?!v1)[\w/]+/g)) {
      paths += 1
      t.ok(source.includes(`'${path.replace(/\/RUN$/, '/:id')}'`), `${name}: ${path}`)
    }
    for (const [program, ...rest] of codeOf(text).flatMap(wordsOf)) {
      if (program !== 'lifeboat-archive' || rest.length === 0) continue
      archived += 1
      t.equal(rest.length, 3, `${name}: ${rest.join(' ')}`)
    }
  }
  t.ok(paths > 10 && archived > 2)
})

await t.test('every metric exists', async (t) => {
  for (const { name, text } of pages) {
    for (const [metric] of text.matchAll(/\blifeboat_[a-z0-9_]+/g))
      t.ok(Object.hasOwn(metricDefinitions, metric), `${name}: ${metric}`)
  }
})

await t.test('every key of the configuration exists', async (t) => {
  const known = keysBelow().flatMap(({ path, node }) => [
    path.join('.'),
    ...(node.items?.properties
      ? keysBelow(node.items).map((below) => `${path.join('.')}[].${below.path.join('.')}`)
      : []),
  ])
  const sectionsOf = new Set(known.flatMap((key) => key.split('.').slice(0, -1)))
  let seen = 0
  for (const { name, text } of pages) {
    for (const code of codeOf(text)) {
      const [key = ''] = code.split(': ')
      const [first = ''] = key.split('.')
      if (!/^[a-z][\w[\]]*(\.[\w[\]]+)+$/i.test(key) || !sectionsOf.has(first)) continue
      seen += 1
      t.ok(
        known.some((one) => `.${one}.`.includes(`.${key}.`) || one.startsWith(`${key}.`)),
        `${name}: ${key}`,
      )
    }
  }
  t.ok(seen > 50)
})

await t.test('what is looked for in the log is logged', async (t) => {
  const logged = await loggedWords()
  let seen = 0
  for (const { name, text } of pages) {
    for (const [, options = '', words = ''] of text.matchAll(
      /journalctl --unit lifeboat --output cat \| grep (-E )?'([^']+)'/g,
    )) {
      if (words.includes('"level"')) continue
      seen += 1
      for (const word of options === '' ? [words] : alternatives(words)) t.ok(logged.includes(word), `${name}: ${word}`)
    }
  }
  t.ok(seen > 20)
})

/** `a|b(c|d)` are `a`, `bc` and `bd`. */
function alternatives(expression: string): readonly string[] {
  const group = /^([^()]*)\(([^()]*)\)(.*)$/.exec(expression)
  if (group === null) return expression.split('|')
  const [, before = '', inside = '', after = ''] = group
  return inside.split('|').flatMap((one) => alternatives(`${before}${one}${after}`))
}

await t.test('every link leads somewhere', async (t) => {
  const anchors = new Map<string, ReadonlySet<string>>()
  for (const { name, text } of pages) {
    for (const [, link = ''] of text.replaceAll(/^```.*?^```$/gms, '').matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      const [path = '', anchor] = link.split('#')
      const file = new URL(path === '' ? `${name}.md` : path, new URL('runbooks/', docs))
      if (!anchors.has(file.pathname))
        anchors.set(file.pathname, anchorsOf(await readFile(file, 'utf8').catch(() => '')))
      const found = anchors.get(file.pathname) ?? new Set()
      t.ok(found.size > 0, `${name}: ${link}: ${basename(file.pathname)}`)
      if (anchor !== undefined) t.ok(found.has(anchor), `${name}: ${link}`)
    }
  }
})

/** As GitHub names them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = text.replaceAll(/^```.*?^```$/gms, '').matchAll(/^#+ (.+)$/gm)
  return new Set(
    [...headings].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}
