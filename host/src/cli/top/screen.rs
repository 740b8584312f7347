//! A view on a terminal: drawn, scrolled, left.

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use ratatui::{DefaultTerminal, Frame};

use super::Watched;
use super::view::{Section, View};

/// From here on sections stand in two columns.
const WIDE: u16 = 130;

/// Shows the process until somebody presses q.
pub fn show(watched: &mut Watched, every: Duration) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut terminal, watched, every);
    ratatui::restore();
    ended
}

fn watch(terminal: &mut DefaultTerminal, watched: &mut Watched, every: Duration) -> std::io::Result<()> {
    let mut due = Instant::now() + every;
    let mut scrolled: u16 = 0;
    let mut gone = None;
    loop {
        let view = watched.view();
        terminal.draw(|frame| scrolled = draw(frame, &view, gone.as_deref(), scrolled))?;
        while event::poll(due.saturating_duration_since(Instant::now()))? {
            let Event::Key(key) = event::read()? else { break }; // drawn anew, as after a change of size
            if key.kind != KeyEventKind::Press {
                continue;
            }
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                KeyCode::Down | KeyCode::Char('j') => scrolled = scrolled.saturating_add(1),
                KeyCode::Up | KeyCode::Char('k') => scrolled = scrolled.saturating_sub(1),
                _ => continue,
            }
            break;
        }
        if Instant::now() >= due {
            gone = watched.look().err().map(|error| format!("{error}: it has ended, or is busy; asking again"));
            due = Instant::now() + every;
        }
    }
}

/// Draws; answers how far it is scrolled, at most to the end.
fn draw(frame: &mut Frame, view: &View, gone: Option<&str>, scrolled: u16) -> u16 {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(title(view)), head);
    let columns: Vec<Vec<Line>> = if frame.area().width >= WIDE {
        let (left, right) = view.sections.split_at(view.sections.len().div_ceil(2));
        vec![lines(left), lines(right)]
    } else {
        vec![lines(&view.sections)]
    };
    let longest = columns.iter().map(Vec::len).max().unwrap_or(0) as u16;
    let scrolled = scrolled.min(longest.saturating_sub(body.height));
    let areas = Layout::horizontal(vec![Constraint::Fill(1); columns.len()]).split(body);
    for (lines, area) in columns.into_iter().zip(areas.iter()) {
        frame.render_widget(Paragraph::new(lines).scroll((scrolled, 0)), *area);
    }
    let foot_line = match gone {
        Some(why) => Line::from(format!(" {why}")).red(),
        None if longest > body.height => Line::from(" q ends · arrows scroll: there is more").dim(),
        None => Line::from(" q ends").dim(),
    };
    frame.render_widget(Paragraph::new(foot_line), foot);
    scrolled
}

fn title(view: &View) -> Line<'_> {
    let state = match &view.not_ready {
        None => Span::from("ready").green(),
        Some(why) => Span::from(format!("not ready: {why}")).yellow(),
    };
    Line::from(vec![Span::from(format!(" {}", view.name)).bold(), Span::from(format!(" · {} · ", view.title)), state])
}

fn lines(sections: &[Section]) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for section in sections {
        let rendered = section.render();
        let mut rendered = rendered.lines().map(|line| format!(" {line}"));
        if section.has_head() {
            lines.extend(rendered.next().map(|head| Line::styled(head, Style::new().bold())));
        }
        lines.extend(rendered.map(Line::from));
        lines.push(Line::default());
    }
    lines
}
