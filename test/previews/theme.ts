/** Grafana's dark theme, as far as the dashboards use it. */
export const theme = {
  page: '#111217',
  panel: '#181b1f',
  border: '#2c3038',
  text: '#ccccdc',
  faint: '#8e8e9a',
  grid: 'rgba(204, 204, 220, 0.08)',
} as const

const named: Readonly<Record<string, string>> = {
  green: '#73bf69',
  orange: '#ff9830',
  red: '#f2495c',
  purple: '#b877d9',
  blue: '#5794f2',
  text: theme.text,
}

/** A colour by its name in Grafana. Another one throws. */
export function colour(name: string): string {
  if (name.startsWith('#')) return name
  const found = named[name]
  if (found === undefined) throw new Error(`the previews do not know the colour ${name}`)
  return found
}

const classic = [
  ...['#73bf69', '#f2cc0c', '#8ab8ff', '#ff780a', '#f2495c', '#5794f2', '#b877d9', '#705da0', '#37872d', '#fade2a'],
  ...['#447ebc', '#c15c17', '#890f02', '#0a437c', '#6d1f62', '#584477', '#b7dbab', '#f4d598', '#70dbed', '#f9ba8f'],
  ...['#f29191', '#82b5d8', '#e5a8e2', '#aea2e0', '#629e51', '#e5ac0e', '#64b0c8', '#e0752d', '#bf1b00', '#0a50a1'],
  ...['#962d82', '#614d93', '#9ac48a', '#f2c96d', '#65c5db', '#f9934e', '#ea6460', '#5195ce', '#d683ce', '#806eb7'],
  ...['#3f6833', '#967302', '#2f575e', '#99440a', '#58140c', '#052b51', '#511749', '#3f2b5b', '#e0f9d7', '#fceaca'],
  ...['#cffaff', '#f9e2d2', '#fce2de', '#badff4', '#f9d9f9', '#dedaf7'],
] as const

/** The colour of a line: by its place, or by its name, the same in every panel. */
export function lineColour(mode: string, index: number, name: string): string {
  if (mode === 'palette-classic') return classic[index % classic.length] ?? theme.text
  if (mode !== 'palette-classic-by-name') throw new Error(`the previews do not know the colours ${mode}`)
  let hash = 0
  for (let at = 0; at < name.length; at++) hash = (Math.imul(hash, 31) + name.charCodeAt(at)) | 0
  return classic[Math.abs(hash) % classic.length] ?? theme.text
}
