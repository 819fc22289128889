import { existsSync } from 'node:fs'
import { glob, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))

/** The prose of a page: what is in a code block or between backticks links nowhere. */
async function proseOf(file: string): Promise<string> {
  const text = await readFile(join(root, file), 'utf8')
  return text.replaceAll(/^ *(```+|~~~+)[^\n]*\n[\s\S]*?^ *\1 *$/gm, '')
}

/** What GitHub makes of headings; the second of the same name ends in `-1`. */
function anchorsOf(prose: string): ReadonlySet<string> {
  const anchors = new Set<string>()
  for (const [, heading = ''] of prose.matchAll(/^#{1,6} +(.+?) *$/gm)) {
    const words = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const slug = words.replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, '').replaceAll(' ', '-')
    let unique = slug
    for (let count = 1; anchors.has(unique); count += 1) unique = `${slug}-${count}`
    anchors.add(unique)
  }
  for (const [, id = ''] of prose.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id)
  return anchors
}

function* linksIn(prose: string): Generator<string> {
  const text = prose.replaceAll(/`[^`\n]*`/g, '``')
  for (const [, target = ''] of text.matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g)) yield target
  for (const [, target = ''] of text.matchAll(/<(?:img|a|source)\b[^>]* (?:src|href|srcset)="([^"]+)"/g)) yield target
}

t.test('links between the documents lead somewhere', async (t) => {
  const files: string[] = []
  for await (const file of glob(['*.md', '{docs,alerts,grafana}/**/*.md'], { cwd: root })) files.push(file)
  const anchors = new Map<string, ReadonlySet<string>>()
  for (const file of files) anchors.set(join(root, file), anchorsOf(await proseOf(file)))
  let count = 0
  const dead: string[] = []
  for (const file of files) {
    for (const link of linksIn(await proseOf(file))) {
      if (/^[a-z][a-z+.-]*:/i.test(link)) continue
      count += 1
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? join(root, file) : join(root, dirname(file), decodeURIComponent(path))
      const found = anchors.get(target)
      const isThere = existsSync(target) && (anchor === undefined || found === undefined || found.has(anchor))
      if (!isThere) dead.push(`${file}: ${link}`)
    }
  }
  t.same(dead, [])
  t.ok(count > 100, `${count} links were found`)
})
