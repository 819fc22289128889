import { globSync } from 'node:fs'
import { mkdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { scratchDirectory } from '../support/scratch.ts'
import { loadOrRefuse, refusal } from './support.ts'

const repositories = [{ name: 'local', url: 'file:///var/backups/lifeboat' }]

/** The message and the hint to the only problem of a configuration. */
async function told(more: object): Promise<string> {
  const { problems } = await refusal({ text: JSON.stringify({ cluster: 'main', repositories, ...more }), env: {} })
  const [problem] = problems
  t.equal(problems.length, 1)
  return `${problem?.key} ${problem?.message}. ${problem?.hint}`
}

t.test('a place that lies in a directory of ours is told where it could be', async (t) => {
  t.equal(
    await told({ wal: { archive: '/var/lib/lifeboat/wal' } }),
    'wal.archive lies inside stateDir (/var/lib/lifeboat). Put it beside that, e.g. in /var/lib/lifeboat-wal; or set stateDir to a directory beside it, e.g. /var/lib/lifeboat/state, and move there what it holds.',
  )
  t.equal(
    await told({ workDir: '/srv/work/', wal: { archive: '/srv/work/work/wal' } }),
    'wal.archive lies inside workDir (/srv/work/). Put it beside that, e.g. in /srv/work-wal.',
    'where the other way is none',
  )
  const beside = 'Give each a directory of its own, beside the others.'
  t.equal(
    await told({ wal: { archive: '/var/lib/lifeboat' } }),
    `wal.archive is the same directory as stateDir (/var/lib/lifeboat). ${beside}`,
  )
  t.equal(await told({ wal: { archive: '/var/lib' } }), `wal.archive holds stateDir (/var/lib/lifeboat). ${beside}`)
  t.equal(
    await told({ wal: { archive: '/var/backups/lifeboat/wal' } }),
    `wal.archive lies inside repositories[0].url. ${beside}`,
  )
  const directory = await scratchDirectory(t)
  await mkdir(join(directory, 'state'))
  await symlink('state', join(directory, 'other'))
  t.match(
    await told({ stateDir: join(directory, 'state'), wal: { archive: join(directory, 'other/wal') } }),
    `wal.archive lies inside stateDir (${directory}/state). Put it beside that, e.g. in ${directory}/state-wal; or`,
  )
})

t.test('what is proposed is accepted', async (t) => {
  for (const more of [
    { wal: { archive: '/var/lib/lifeboat-wal' } },
    { wal: { archive: '/var/lib/lifeboat/wal' }, stateDir: '/var/lib/lifeboat/state' },
  ]) {
    const found = await loadOrRefuse({ text: JSON.stringify({ cluster: 'main', repositories, ...more }), env: {} })
    t.ok('config' in found, JSON.stringify(more))
  }
})

t.test('no example in the documents has directories that lie in one another', async (t) => {
  const root = join(import.meta.dirname, '../..')
  let tried = 0
  for (const file of globSync(['README.md', 'docs/**/*.md'], { cwd: root })) {
    const text = await readFile(join(root, file), 'utf8')
    for (const [, block = ''] of text.matchAll(/^```yaml\n(.*?)^```/gms)) {
      const [document] = parseAllDocuments(block)
      const tree: unknown = document?.errors.length === 0 ? document.toJS() : null
      if (typeof tree !== 'object' || tree === null || !/file:\/\/|archive:|Dir:/.test(block)) continue
      tried++
      const whole = JSON.stringify({ cluster: 'main', repositories, ...tree })
      const found = await loadOrRefuse({ text: whole, env: {} })
      const problems = 'problems' in found ? found.problems.map(({ key, message }) => `${key} ${message}`) : []
      t.notMatch(problems.join('\n'), /lies inside|holds \w|same directory/, `${file}:\n${block}`)
    }
  }
  t.ok(tried > 5, `${tried} examples`)
})
