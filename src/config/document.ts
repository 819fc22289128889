import { stringify } from 'yaml'
import { keysBelow, rootNode, type SchemaNode, variableOf } from './keys.ts'
import { kinds } from './kinds.ts'

const generated = 'Generated from src/config/schema.ts by `node docs/generate.ts`; do not edit.'

const introduction = `# Configuration

<!-- ${generated} -->

Lifeboat reads one YAML 1.2 file, named by \`--config\` or \`LIFEBOAT_CONFIG\`. Everything in it can be set by the
environment too, so that no file is needed at all. [lifeboat.example.yaml](lifeboat.example.yaml) is a complete file that
works as it is.

The whole configuration is checked before anything starts, and every problem is reported at once, with its key and its
line or variable. Keys that do not exist are errors, and so are variables that begin with \`LIFEBOAT_\` and name no key:
a misspelt key would otherwise be a silent default. A file may hold no aliases, no tags and only one document.

## Units

- **Durations** have a unit: \`w\`, \`d\`, \`h\`, \`m\` (minutes), \`s\`, \`ms\`; several may be joined, the largest first:
  \`30d\`, \`4h\`, \`1h30m\`. A day is 24 hours. A number without a unit is an error.
- **Sizes** are bytes, or have a unit: \`KiB\`, \`MiB\`, \`GiB\`, \`TiB\`, \`PiB\` (powers of 1024), \`kB\`, \`MB\`, \`GB\`, \`TB\`,
  \`PB\` (powers of 1000). PostgreSQL's own settings mean 1024 by \`kB\`; here that is \`KiB\`.
- **Schedules** are cron expressions of five fields, always in UTC: no run is skipped or doubled when clocks change.
  \`off\` switches a schedule off.

## Environment

Each key has a variable, given below: the path in upper case, with underscores. A variable wins over the file. One that is
empty counts as not set. A list of names is separated by commas, or written as a JSON or YAML list when a name holds a
comma; a list of sections is written as JSON or YAML:

\`\`\`sh
LIFEBOAT_POSTGRES_DATABASES='app,accounting'
LIFEBOAT_REPOSITORIES='[{ "name": "local", "url": "file:///var/backups/lifeboat" }]'
\`\`\`

A list given by the environment replaces the file's list as a whole. Variables that Kubernetes makes for a service whose
name begins with \`lifeboat\` (\`LIFEBOAT_SERVICE_HOST\`, \`LIFEBOAT_PORT_10187_TCP\`, …) are ignored.

## Secrets

The only secret is the password of the database role. Keep it in a file of its own (\`postgres.passwordFile\`,
\`LIFEBOAT_POSTGRES_PASSWORD_FILE\`): it is read anew for each connection. As libpq demands of private keys, the file must
not be accessible to anyone but its owner; when root owns it, its group may read it (0640), which is how secrets reach a
container that does not run as root. Anything more open is an error, and so is a configuration file that holds
\`postgres.password\` and is more open than that. Of a token only its SHA-256 is kept:

\`\`\`sh
token=$(openssl rand -hex 32)
printf %s "$token" | sha256sum
\`\`\`

Passwords, tokens and their hashes appear in no error message, and in no printed configuration.

Tokens guard the API alone: the page at \`/\`, \`/metrics\` and the health checks answer everybody who reaches \`listen\`, and
tell names of databases and sizes. Keep that address off networks that should not know them.

## Directories

No repository and no \`wal.archive\` may lie inside another, nor inside \`stateDir\` or \`workDir\`, nor these inside one of them, symbolic
links followed: each cleans up what it takes for its own. \`stateDir\` is \`/var/lib/lifeboat\` unless it is set. So where all lies on one disk or volume that is
mounted there, set \`stateDir\` to \`/var/lib/lifeboat/state\`, and the others to directories beside it.
`

/** The contents of docs/configuration.md. */
export function renderConfigurationDocument(): string {
  const sections = Object.entries(rootNode.properties ?? {}).filter(([, node]) => node.properties || hasSections(node))
  const single = Object.entries(rootNode.properties ?? {}).filter(([, node]) => !node.properties && !hasSections(node))
  return [
    introduction,
    '## Keys\n',
    'At the top of the file:\n',
    table(single.map(([name, node]) => ({ path: [name], node, variable: variableOf([name]) }))),
    ...sections.map(([name, node]) => describeSection(name, node)),
  ].join('\n')
}

function describeSection(name: string, node: SchemaNode): string {
  const keys = keysBelow({ properties: { [name]: node } })
  const parts = [`### ${name}\n`, `${node.description ?? ''}\n`]
  if (node.properties) parts.push(table(keys))
  for (const { path, node: list, variable } of keys.filter((key) => hasSections(key.node)))
    parts.push(...describeElements(path.join('.'), list, variable))
  return parts.join('\n')
}

/** The keys of the elements of a list, and of lists in them. */
function describeElements(key: string, list: SchemaNode, variable: string | null): string[] {
  const elements = Object.entries(list.items?.properties ?? {}).flatMap(([name, child]) => [
    // One that is optional as a whole is told of itself.
    ...(child.properties && child.absent !== undefined ? [{ path: [name], node: child }] : []),
    ...keysBelow({ properties: { [name]: child } }),
  ])
  const required = list.default === undefined ? 'required' : 'none by default'
  return [
    `Each element of \`${key}\` (${required}${variable === null ? '' : `; \`${variable}\``}) has these keys:\n`,
    table(elements.map((child) => ({ path: [`${key}[].${child.path.join('.')}`], node: child.node }))),
    ...elements
      .filter(({ node }) => hasSections(node))
      .flatMap(({ path, node }) => describeElements(`${key}[].${path.join('.')}`, node, null)),
  ]
}

interface Row {
  readonly path: readonly string[]
  readonly node: SchemaNode
  readonly variable?: string
}

function table(rows: readonly Row[]): string {
  const withVariable = rows.some(({ variable }) => variable !== undefined)
  const head = ['key', 'type', 'default', ...(withVariable ? ['environment'] : []), 'description']
  const lines = rows.map(({ path, node, variable }) => [
    `\`${path.join('.')}\``,
    typeOf(node),
    defaultOf(node),
    ...(withVariable ? [`\`${variable}\``] : []),
    node.description ?? '',
  ])
  const cells = [head, head.map(() => '---'), ...lines]
  return `${cells.map((line) => `| ${line.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`).join('\n')}\n`
}

function typeOf(node: SchemaNode): string {
  if (node.properties) return 'section'
  if (node.items)
    return hasSections(node) ? 'list of sections' : node.items.kind === 'tag' ? 'list of `key=value`' : 'list of names'
  if (node.enum) return node.enum.map((value) => `\`${value}\``).join(', ')
  const bounds = [node.atLeast ? `at least ${node.atLeast}` : '', node.atMost ? `at most ${node.atMost}` : ''].filter(
    Boolean,
  )
  return [kinds[node.kind ?? 'text'].label, ...bounds].join(', ')
}

function defaultOf(node: SchemaNode): string {
  if (node.default === undefined) return node.absent ?? 'required'
  if (Array.isArray(node.default)) return 'none'
  return `\`${typeof node.default === 'string' ? node.default : JSON.stringify(node.default)}\``
}

function hasSections(node: SchemaNode): boolean {
  return node.items?.properties !== undefined
}

/**
 * The contents of docs/lifeboat.example.yaml: every key with its default, or an example where that fits the rest better;
 * those without a default as comments, with an example.
 */
export function renderExample(): string {
  const head = [
    '# Lifeboat: an example that works as it is, for a PostgreSQL from Debian. docs/configuration.md has every detail.',
    `# ${generated}`,
    '# What is commented out has no default; the values there are examples.',
  ]
  return `${head.join('\n')}\n${exampleSection(rootNode, '').join('\n')}\n`
}

function exampleSection(node: SchemaNode, indent: string): string[] {
  const required = new Set(node.required)
  return Object.entries(node.properties ?? {}).flatMap(([name, child]) => {
    const space = indent === '' || child.properties ? [''] : []
    const comments = wrap(child.description ?? '', 110 - indent.length).map((line) => `${indent}# ${line}`)
    const lines = [...space, ...comments]
    // One that switches something on by being there.
    if (child.properties && child.absent !== undefined) {
      const keys = exampleSection(child, '  ').filter((line) => !/^ *#|^$/.test(line))
      return [...lines, ...[`${name}:`, ...keys].map((line) => `${indent}# ${line}`)]
    }
    if (child.properties) return [...lines, `${indent}${name}:`, ...exampleSection(child, `${indent}  `)]
    // A list that is empty by default is only shown as a comment, unless it has an example that everybody needs.
    const isEmpty =
      Array.isArray(child.default) &&
      child.default.length === 0 &&
      (child.example === undefined || child.isOptional === true)
    const isSet = required.has(name) && !isEmpty
    const isDefault = isSet && child.default !== undefined && child.example === undefined
    const value = isDefault ? child.default : exampleOf(child)
    // A cron expression may begin with an asterisk, which means something else in YAML: all of them are quoted.
    const defaultStringType = child.kind === 'schedule' ? 'QUOTE_DOUBLE' : 'PLAIN'
    const text = stringify({ [name]: value }, { lineWidth: 0, defaultStringType, defaultKeyType: 'PLAIN' })
    return [
      ...lines,
      ...text
        .trimEnd()
        .split('\n')
        .map((line) => `${indent}${isSet ? '' : '# '}${line}`),
    ]
  })
}

function exampleOf(node: SchemaNode): unknown {
  if (!node.items?.properties) return node.example ?? (node.items?.example && [node.items.example])
  // Who takes the comment signs away shall not switch on what a section that is optional as a whole does.
  // A list with an example of its own has keys that do not go together.
  const [own] = Array.isArray(node.example) ? (node.example as readonly Record<string, object>[]) : []
  const shown = Object.entries(node.items.properties).filter(([name, child]) =>
    child.properties ? child.absent === undefined : own === undefined || Object.hasOwn(own, name),
  )
  const element = shown.map(([name, child]) => [
    name,
    child.properties ? { ...own?.[name], ...defaultsOf(child.properties) } : child.example,
  ])
  return [Object.fromEntries(element)]
}

function defaultsOf(properties: Readonly<Record<string, SchemaNode>>): object {
  const withDefault = Object.entries(properties).filter(([, child]) => child.default !== undefined)
  return Object.fromEntries(withDefault.map(([name, child]) => [name, child.default]))
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
