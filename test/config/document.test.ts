import { readFile } from 'node:fs/promises'
import t from 'tap'
import { parse } from 'yaml'
import { pages } from '../../docs/generate.ts'
import { renderConfigurationDocument, renderExample } from '../../src/config/document.ts'
import { keysBelow } from '../../src/config/keys.ts'
import { loadConfig } from '../../src/config/load.ts'
import { rpoWarning } from '../../src/config/objectives.ts'
import { minimal } from './support.ts'

await t.test('generated pages are as the code says', async (t) => {
  for (const [file, render] of pages) {
    const stored = await readFile(new URL(`../../docs/${file}`, import.meta.url), 'utf8')
    t.equal(stored, await render(), `docs/${file}: run node docs/generate.ts`)
  }
})

await t.test('the page names every key and its variable once', async (t) => {
  const page = renderConfigurationDocument()
  for (const { path, variable, node } of keysBelow()) {
    t.ok(page.includes(`\`${variable}\``), variable)
    if (node.items?.properties) {
      for (const { path: below } of keysBelow(node.items))
        t.ok(page.includes(`\`${path.join('.')}[].${below.join('.')}\``), below.join('.'))
    } else t.equal(page.split(`| \`${path.join('.')}\` |`).length, 2, path.join('.'))
  }
  const rows = page.split('\n').filter((line) => line.startsWith('|'))
  for (const row of rows) t.ok([5, 6].includes(row.replaceAll('\\|', '').split('|').length - 1), row)
})

await t.test(
  'the example works as it is, and shows the defaults but where one does not fit its schedule',
  async (t) => {
    const example = renderExample()
    const config = await loadConfig({ text: example, env: {} })
    const defaults = await loadConfig({ text: minimal, env: {} })
    t.strictSame({ ...config }, { ...defaults, objectives: { ...defaults.objectives, rpoSeconds: 26 * 3600 } })
    t.equal(rpoWarning(config), null, 'its dumps can hold its objective')
    const tree: unknown = parse(example)
    t.match(tree, { schedule: { dump: '0 2 * * *' }, dump: { fingerprint: { maxTableSize: '16GiB' } } })
  },
)

await t.test('the configuration of the quick start of a restore is accepted', async (t) => {
  const page = await readFile(new URL('../../docs/pitr.md', import.meta.url), 'utf8')
  const [, block = ''] = /^ *```yaml\n(.*?)^ *```$/ms.exec(page) ?? []
  const config = await loadConfig({ text: block, env: {} })
  t.match(config, { wal: { archive: String }, repositories: [{ retention: { windowSeconds: 14 * 86_400 } }] })
  t.equal(rpoWarning(config), null, 'it can hold its objective')
})

await t.test('every commented key of the example is accepted once it is uncommented', async (t) => {
  const example = renderExample()
  for (const name of ['workDir', 'binDir', 'dumpMaxAge', 'verificationMaxAge', 'databases', 'assertions']) {
    const uncommented = uncomment(example, name)
    t.not(uncommented, example, name)
    await t.resolves(loadConfig({ text: uncommented, env: {} }), name)
  }
  await t.rejects(loadConfig({ text: uncomment(example, 'tokens'), env: {} }), { message: /auth\.tokens\[0\]\.sha256/ })
})

/** The example with one commented key, and the lines of its list, put to use. */
function uncomment(example: string, name: string): string {
  const lines = example.split('\n')
  const start = lines.findIndex((line) => new RegExp(`^ *# ${name}:`).test(line))
  let end = start + 1
  while (/^ *# {3}/.test(lines[end] ?? '')) end += 1
  return lines.map((line, index) => (index >= start && index < end ? line.replace('# ', '') : line)).join('\n')
}
